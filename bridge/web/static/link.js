// The page behind a one-time link. Nothing is opened before the person says so: programs that
// look at links must not use it up.

import { focusOn } from "./elements.js";
import { Logins } from "./logins.js";
import { Session } from "./session.js";
import { Sessions } from "./sessions.js";

const find = (id) => document.getElementById(id);
const session = new Session();
const secret = location.hash.slice(1);
// Out of the address bar and the history at once, whatever comes next.
history.replaceState(null, "", location.pathname);

function tell(sentence) {
  find("trouble").textContent = sentence;
  find("trouble").hidden = false;
}

if (secret === "") {
  find("open").disabled = true;
  tell("This link is not whole. Ask the bot for a new one.");
}

find("open").addEventListener("click", async () => {
  find("open").disabled = true;
  find("trouble").hidden = true;
  try {
    const opened = await session.takeLink(secret);
    find("words").hidden = true;
    find("open").hidden = true;
    find("user").textContent = opened.user_id;
    find("place").hidden = false;
    focusOn(find("whose"));
    // What fails from here on is said there; the link is used up.
    const isAll = opened.scope === "manager";
    new Logins(session, find("own")).open(!isAll).catch(() => {});
    if (isAll) new Sessions(session, find("own"), end).refresh().catch(() => {});
  } catch (error) {
    tell(error.message);
    // Else the link may still be good.
    find("open").disabled = error.status === 401 || error.status === 403;
    focusOn(find(find("open").disabled ? "trouble" : "open"));
  }
});

function end() {
  find("place").hidden = true;
  tell("You are signed out. You may close this page.");
  focusOn(find("trouble"));
}

find("leave").addEventListener("click", async () => {
  try {
    await session.logOut();
    end();
  } catch (error) {
    tell(error.message);
  }
});

// A person's logins: how they are, signing in to a network step by step, logging out. Works in any
// page that has the session; what is shown is text, never markup.

import { ask, button, focusOn, make, replaceRows } from "./elements.js";

export class Logins {
  #session;
  #current = null;

  constructor(session, place) {
    this.#session = session;
    this.trouble = make("p", { role: "alert", hidden: true });
    this.list = make("ul", { id: "logins" });
    this.ways = make("div", { id: "ways" });
    this.step = make("div", { id: "step", "aria-live": "polite" });
    this.heading = make("h2", {}, "Your logins");
    this.wayHeading = make("h2", {}, "Sign in");
    place.append(this.trouble, this.heading, this.list, this.wayHeading, this.step, this.ways);
  }

  // Shows everything; begins at once where there is one way only.
  async open(beginAtOnce) {
    const { networks } = await this.#call("GET", "/networks");
    await this.refresh();
    const ways = networks.flatMap((network) => network.flows.map((flow) => [network, flow]));
    this.ways.replaceChildren(
      ...ways.map(([network, flow]) =>
        make("p", {}, button(`${network.id}: ${flow.title}`, () => this.begin(network, flow))),
      ),
    );
    if (ways.length === 0) this.ways.append(make("p", {}, "There is no network to sign in to."));
    if (beginAtOnce && ways.length === 1) await this.begin(...ways[0]);
  }

  async refresh() {
    this.#list((await this.#call("GET", "/logins")).logins);
  }

  #list(logins) {
    const rows = logins.map((login) => {
      const several = logins.filter((one) => one.network === login.network).length > 1;
      const which = `${login.name} on ${login.network}`;
      const row = make(
        "li", {}, make("strong", {}, login.name), ` on ${login.network}: `,
        make("span", { class: "state" }, login.state),
        login.reason ? ` (${login.reason})` : "", " ",
      );
      if (several && login.preferred) row.append("It speaks for you. ");
      if (several && !login.preferred) {
        const prefer = () => this.#change("POST", `/logins/${login.id}/prefer`, {});
        row.append(button("Let it speak", prefer, `Let it speak: ${which}`), " ");
      }
      row.append(button("Log out", () => this.#logOut(login, which), `Log out ${which}`));
      return row;
    });
    replaceRows(this.list, this.heading, rows.length ? rows : [make("li", {}, "None yet.")]);
  }

  async begin(network, flow) {
    this.ways.hidden = true;
    await this.#go(() =>
      this.#session.call("POST", "/sign-ins", { network: network.id, flow: flow.id }),
    );
  }

  // --- inside ---

  async #call(...request) {
    this.#tell("");
    try {
      return await this.#session.call(...request);
    } catch (error) {
      this.#tell(error.message);
      throw error;
    }
  }

  #tell(sentence) {
    this.trouble.textContent = sentence;
    this.trouble.hidden = sentence === "";
  }

  async #change(...request) {
    await this.#call(...request);
    await this.refresh();
  }

  async #logOut(login, which) {
    if (!(await ask(`Log out ${which}? To come back you sign in again.`, "Log out"))) return;
    const { remark } = await this.#call("DELETE", `/logins/${login.id}`);
    await this.refresh();
    this.#tell(remark);
  }

  // Does one thing that leads to a step, and shows it.
  async #go(way) {
    const from = document.activeElement;
    this.#tell("");
    try {
      this.#show(await way());
    } catch (error) {
      this.#tell(error.message);
      for (const one of this.step.querySelectorAll("button")) one.disabled = false;
      if (this.step.childElementCount === 0) this.ways.hidden = false;
      focusOn(from.isConnected && from !== document.body ? from : this.wayHeading);
    }
  }

  #show(signIn) {
    this.#current = signIn.id;
    this.#tell(signIn.trouble);
    if (signIn.step === null) {
      this.#end(signIn);
      return;
    }
    const { type, text } = signIn.step;
    const takesFocus = this.#hasFocus();
    const words = make("p", { id: "step-text" }, text);
    this.step.replaceChildren(words);
    if (type === "ask") this.step.append(this.#form(signIn));
    else this.#showElsewhere(signIn);
    if (takesFocus) focusOn(this.step.querySelector("input") ?? words);
  }

  // Whether the person is here, or at a text. Who is at another control is not called away.
  #hasFocus() {
    const active = document.activeElement;
    return active.tabIndex < 0 || [this.step, this.ways].some((one) => one.contains(active));
  }

  #end(signIn) {
    const takesFocus = this.#hasFocus();
    this.#current = null;
    this.step.replaceChildren();
    this.ways.hidden = false;
    if (signIn.login !== null) {
      this.step.append(make("p", { id: "done" }, `You are signed in to ${signIn.network}.`));
    }
    if (takesFocus) focusOn(this.step.firstElementChild ?? this.wayHeading);
    this.refresh().catch(() => {});
    // It takes a moment until the network has let the login in. What is said meanwhile stays.
    const look = () => this.#session.call("GET", "/logins").then(({ logins }) => this.#list(logins));
    if (signIn.login !== null) setTimeout(() => look().catch(() => {}), 2000);
  }

  #form(signIn) {
    const form = make("form", { autocomplete: "off" });
    for (const field of signIn.step.fields) {
      const id = `field-${field.name}`;
      const label = field.required ? field.label : `${field.label} (may be left empty)`;
      form.append(
        make("label", { for: id }, label),
        make("input", {
          id, name: field.name, required: field.required, autocapitalize: "none",
          spellcheck: "false", autocomplete: "off", type: field.secret ? "password" : "text",
          "aria-describedby": "step-text",
        }),
      );
    }
    const go = make("button", { type: "submit" }, "Continue");
    const stop = button("Cancel", () => this.#giveUp());
    form.append(make("p", {}, go, " ", stop));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      go.disabled = true;
      const answers = {};
      for (const [name, value] of new FormData(form)) if (value !== "") answers[name] = value;
      this.#go(() => this.#session.call("POST", `/sign-ins/${signIn.id}`, { answers }));
    });
    return form;
  }

  // A link or a code: the network tells when the person has used it, so we keep asking.
  #showElsewhere(signIn) {
    const { link, code } = signIn.step;
    if (link && /^https?:\/\//.test(link)) {
      const attributes = { href: link, target: "_blank", rel: "noopener noreferrer" };
      this.step.append(make("p", {}, make("a", attributes, link)));
    }
    if (code) this.step.append(make("p", {}, make("code", { id: "code" }, code)));
    this.step.append(make("p", {}, button("Cancel", () => this.#giveUp())));
    this.#follow(signIn);
  }

  async #follow(signIn) {
    let seen = signIn;
    while (seen.number === signIn.number && seen.step !== null) {
      try {
        seen = await this.#session.call("GET", `/sign-ins/${signIn.id}?after=${signIn.number}`);
      } catch (error) {
        this.#tell(error.message);
        if (error.status !== 0 && error.status < 500) return;
        await new Promise((resolve) => setTimeout(resolve, 3000));
      }
      if (this.#current !== signIn.id) return;
    }
    this.#show(seen);
  }

  async #giveUp() {
    const id = this.#current;
    this.#end({ login: null });
    await this.#session.call("DELETE", `/sign-ins/${id}`).catch(() => {});
  }
}

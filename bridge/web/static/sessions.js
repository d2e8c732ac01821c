// Where a person is signed in at the web, and the ways to end that. What is shown is text, never
// markup.

import { ask, button, make, replaceRows } from "./elements.js";

const shown = (moment) => new Date(moment).toLocaleString();

export class Sessions {
  #session;
  #onEnd;

  // Calls onEnd when the session of this page is among those that were ended.
  constructor(session, place, onEnd) {
    this.#session = session;
    this.#onEnd = onEnd;
    this.trouble = make("p", { role: "alert", hidden: true });
    this.list = make("ul", { id: "sessions" });
    this.heading = make("h2", {}, "Where you are signed in");
    place.append(
      this.heading, this.trouble, this.list,
      make("p", {}, button("End all", () => this.#endAll(), "End all sessions")),
    );
  }

  async refresh() {
    const { tokens } = await this.#call("GET", "/tokens");
    replaceRows(
      this.list, this.heading, tokens.map((one) => {
        const name = one.id.slice(0, 8);
        const row = make(
          "li", {}, make("strong", {}, name), `: ${what(one.scope)}, since ${shown(one.made_at)}, `,
          `last used ${shown(one.used_at)}. `,
        );
        if (one.this) row.append("This page.");
        else row.append(button("End", () => this.#end(one), `End session ${name}`));
        return row;
      }),
    );
  }

  // --- inside ---

  async #call(...request) {
    this.trouble.hidden = true;
    try {
      return await this.#session.call(...request);
    } catch (error) {
      this.trouble.textContent = error.message;
      this.trouble.hidden = false;
      throw error;
    }
  }

  async #end(one) {
    await this.#call("DELETE", `/tokens/${one.id}`);
    await this.refresh();
  }

  async #endAll() {
    const question = "End all your sessions at the web, this page's too?";
    if (!(await ask(question, "End all"))) return;
    await this.#call("DELETE", "/tokens");
    this.#onEnd();
  }
}

function what(scope) {
  return scope.startsWith("login:") ? `to sign in to ${scope.slice(6)}` : "to all that is yours";
}

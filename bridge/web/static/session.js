// Requests to the API as one signed-in person. The token lives in this object and nowhere else:
// no cookie, no storage; when the page is closed it is gone.

const PREFIX = "/_trestle/v1";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Session {
  #token = null;

  // Opens a one-time link; resolves to {user_id, scope}. Throws Refused with the reason.
  async takeLink(secret) {
    const { token, ...rest } = await this.call("POST", "/links/take", { token: secret });
    this.#token = token;
    return rest;
  }

  async logOut() {
    await this.call("POST", "/logout", {});
    this.#token = null;
  }

  // Resolves to the answer's object. Throws Refused with a sentence for the person.
  async call(method, path, body) {
    const headers = {};
    if (this.#token !== null) headers["Authorization"] = `Bearer ${this.#token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(PREFIX + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
    } catch {
      throw new Refused(0, "Trestle does not answer. Are you online?");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new Refused(response.status, answer.error ?? "That failed.");
    }
    return answer;
  }
}

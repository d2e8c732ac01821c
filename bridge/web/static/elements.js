// What pages are made of.

// An element with attributes and children; strings become text.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function button(text, act, label = text) {
  const made = make("button", { type: "button", "aria-label": label }, text);
  // What went wrong was said where it was asked.
  made.addEventListener("click", () => Promise.resolve(act()).catch(() => {}));
  return made;
}

// Moves the focus to what is new. Where it goes with what had it, a screen reader says nothing and
// the keyboard begins at the top again.
export function focusOn(element) {
  if (!element.matches("button, input")) element.tabIndex = -1;
  element.focus();
}

// Gives a list other rows. The focus stays on the button of the same label, else goes to the heading.
export function replaceRows(list, heading, rows) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...rows);
  if (focused !== null) focusOn(alike(focused, list) ?? heading);
}

// The button in a place that has another one's label, and stands where that was.
function alike(button, place) {
  const label = button.getAttribute("aria-label");
  return [...place.querySelectorAll("button")].find(
    (one) => one.getAttribute("aria-label") === label,
  );
}

// Asks before what cannot be undone. Resolves to whether the person wants it; the focus is where it
// was before then.
export function ask(question, yes) {
  const from = document.activeElement;
  const dialog = make("dialog", { "aria-labelledby": "question" });
  const no = button("Cancel", () => dialog.close());
  no.autofocus = true;
  dialog.append(
    make("p", { id: "question" }, question),
    make("p", {}, button(yes, () => dialog.close("yes")), " ", no),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      // Where that stood may have got other rows meanwhile.
      if (!from.isConnected) alike(from, document)?.focus();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}

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

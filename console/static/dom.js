// Making and updating elements, and nothing that knows what they mean.

/** Make an element. Properties starting with "on" are listeners; "data-…", "aria-…" and "role" are attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (/^(data-|aria-|role$)/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Make one icon out of stroked SVG paths. */
export function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(svg.namespaceURI, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** Make a container show exactly these items, in order, keeping the elements (and the focus) of those it had. */
export function keyed(container, items, keyOf, create, update) {
  const known = new Map([...container.children].map((element) => [element.dataset.key, element]));
  let place = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
    update(element, item);
  }
  for (const element of known.values()) element.remove();
}

/** Set text only when it changed, so that selections and screen readers are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show a refusal as a sentence, with its code small; null hides it. */
export function showError(element, error) {
  element.hidden = !error;
  if (!error) return;
  element.replaceChildren(error.message, " ", h("small", {}, error.code ?? ""));
}

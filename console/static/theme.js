// The terminal's colours in both schemes; the page's are in style.css.

const dark = matchMedia("(prefers-color-scheme: dark)");

const DARK = {
  background: "#14181b", foreground: "#d8dee2", cursor: "#7fc8bd", cursorAccent: "#14181b", selectionBackground: "#35535a",
  black: "#22282c", red: "#e5737b", green: "#8cc27d", yellow: "#d9b36c", blue: "#74a8e0", magenta: "#c08fd6",
  cyan: "#6fc0c0", white: "#c3cace", brightBlack: "#7b868d", brightRed: "#f2919a", brightGreen: "#a6d99a",
  brightYellow: "#ecca8c", brightBlue: "#96c0f0", brightMagenta: "#d4abe6", brightCyan: "#92d8d6", brightWhite: "#f2f5f6",
};

const LIGHT = {
  background: "#fdfdfc", foreground: "#2a3035", cursor: "#2f6f6a", cursorAccent: "#fdfdfc", selectionBackground: "#c4dfdc",
  black: "#2a3035", red: "#b3343f", green: "#3d7a2f", yellow: "#8a6412", blue: "#2761a8", magenta: "#85479e",
  cyan: "#1f7474", white: "#d5dadd", brightBlack: "#6b757b", brightRed: "#c9414d", brightGreen: "#478c38",
  brightYellow: "#9c7318", brightBlue: "#3273c4", brightMagenta: "#9a58b5", brightCyan: "#278787", brightWhite: "#f4f6f7",
};

export function theme() {
  return dark.matches ? DARK : LIGHT;
}

export function onThemeChange(callback) {
  dark.addEventListener("change", callback);
}

// Figures as people read them.

export function bytes(count) {
  for (const [unit, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${unit}`;
  }
  return `${count} bytes`;
}

export function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return "< 1 min";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const FIRST = ["amber", "brisk", "calm", "clear", "early", "fair", "gentle", "keen", "light", "mild", "quiet", "swift"];
const SECOND = ["alder", "birch", "cedar", "crane", "finch", "harbor", "heron", "maple", "otter", "river", "sparrow", "willow"];

/** Suggest a name for a DevBox that none has yet. */
export function suggestName(taken) {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  for (let i = 0; i < 50; i++) {
    const name = `${pick(FIRST)}-${pick(SECOND)}`;
    if (!taken.has(name)) return name;
  }
  return `devbox-${Date.now().toString(36)}`;
}

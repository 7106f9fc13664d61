// Numbers and times as people read them.

const NUMBER = new Intl.NumberFormat("en");

export function count(number) {
  return NUMBER.format(number);
}

/** A rate, to a tenth while that can be seen. */
export function rate(number) {
  return number < 100 ? number.toFixed(1) : count(Math.round(number));
}

/** Bytes in the unit that needs no more than three digits, to two or three of them. */
export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = number < 1 ? 0 : Math.min(Math.floor(Math.log10(number) / 3), units.length - 1);
  const value = number / 1000 ** power;
  return `${power > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

export function seconds(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 1 : 0)} s`;
}

/** The heading under which a conversation of that time is listed. */
export function dayOf(time, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 24 * 3600 * 1000;
  if (time >= midnight) return "Today";
  if (time >= midnight - day) return "Yesterday";
  if (time >= midnight - 7 * day) return "The last seven days";
  return "Earlier";
}

// What can be asked of the sampling. A value that was not changed is not sent: the server's holds.

export const PARAMETERS = [
  { name: "temperature", label: "Temperature", off: 1, min: 0, max: 2, step: 0.05,
    hint: "Lower is surer, higher is wilder; 0 always takes the likeliest token." },
  { name: "top_p", label: "Top p", off: 1, min: 0.01, max: 1, step: 0.01,
    hint: "Only the likeliest tokens that together have this probability." },
  { name: "top_k", label: "Top k", off: 0, min: 0, max: 200, step: 1,
    hint: "Only so many of the likeliest tokens; 0 allows all." },
  { name: "min_p", label: "Min p", off: 0, min: 0, max: 1, step: 0.01,
    hint: "Only tokens at least this likely, relative to the likeliest." },
  { name: "typical_p", label: "Typical p", off: 1, min: 0.01, max: 1, step: 0.01,
    hint: "Only tokens about as surprising as is expected here." },
  { name: "repetition_penalty", label: "Repetition penalty", off: 1, min: 1, max: 2, step: 0.01,
    hint: "Divides the scores of tokens that were used; 1 is off." },
  { name: "presence_penalty", label: "Presence penalty", off: 0, min: -2, max: 2, step: 0.05,
    hint: "Taken off once for every token that was used." },
  { name: "frequency_penalty", label: "Frequency penalty", off: 0, min: -2, max: 2, step: 0.05,
    hint: "Taken off for each time that a token was used." },
  { name: "penalty_decay", label: "Penalty decay", off: 1, min: 0.9, max: 1, step: 0.001,
    hint: "How slowly earlier uses are forgotten; 1 never forgets." },
];

/** Returns the fields of a request for these settings, the changed ones only. */
export function requestFields(sampling) {
  const fields = {};
  for (const { name } of PARAMETERS) {
    if (Number.isFinite(sampling[name])) fields[name] = sampling[name];
  }
  for (const name of ["max_tokens", "seed"]) {
    if (Number.isInteger(sampling[name])) fields[name] = sampling[name];
  }
  const stop = (sampling.stop ?? "").split("\n").filter((line) => line !== "");
  if (stop.length > 0) fields.stop = stop;
  return fields;
}

"use strict";
// Asks /status.json every two seconds while the page is visible. Texts of the router go into text nodes only.
const SECOND_MS = 1000;
const field = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]
    .map(([unit, name], at, all) => [Math.floor((at ? seconds % all[at - 1][0] : seconds) / unit), name]);
  const first = Math.min(parts.findIndex(([count]) => count > 0) + 1 || parts.length, parts.length) - 1;
  return parts.slice(first, first + 2).map(([count, name]) => `${count} ${name}`).join(" ");
}

function fill(id, rows) {
  field(id).replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) row.appendChild(document.createElement("td")).textContent = cell;
    return row;
  }));
}

function show(status) {
  field("trouble").textContent = status.trouble ?? "";
  field("trouble").hidden = !status.trouble;
  field("version").textContent = status.version;
  field("uptime").textContent = duration(status.uptime_s);
  for (const id of ["connections", "messages_in", "messages_out"]) field(id).textContent = number(status[id]);
  fill("realms", status.realms.map((realm) =>
    [realm.name, ...["sessions", "subscriptions", "registrations", "retained"].map((key) => number(realm[key]))]));
  fill("refused", status.refused.map((refusal) => [refusal.why, number(refusal.count), `${duration(refusal.last_s)} ago`]));
  field("refusals").hidden = !status.refused.length;
  fill("listeners", status.listeners.map((listener) => [listener.address, listener.kind]));
}

function state(text, lost) {
  field("state").textContent = text;
  field("state").classList.toggle("lost", lost);
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/status.json", { signal: AbortSignal.timeout(5 * SECOND_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const status = await answer.json();
      show(status);
      state(status.trouble ? "in trouble" : "running", Boolean(status.trouble));
    } catch {
      state("no answer", true);
    }
  }
  setTimeout(refresh, 2 * SECOND_MS);
}

refresh();

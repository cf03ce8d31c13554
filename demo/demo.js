"use strict";
// The den: shows what the device publishes, calls what it serves, and serves what it calls. Texts go into text nodes only.
const READINGS = 120, LINES = 200;
const field = (id) => document.getElementById(id);
const clock = () => new Date().toLocaleTimeString("en", { hour12: false });
const readings = [];
let lamp = { on: false, brightness: 60 };

/** Appends a line to a list and forgets the oldest ones. */
function line(list, ...parts) {
  const item = document.createElement("li");
  item.append(...parts);
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.childElementCount > LINES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
  return item;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function log(kind, name, value) {
  line(field("log"), element("time", clock()), element("b", kind), element("span", `${name} ${JSON.stringify(value) ?? ""}`));
}

function showTemperature([reading]) {
  if (typeof reading?.celsius !== "number") return;
  field("temperature").textContent = reading.celsius.toFixed(1);
  readings.push(reading.celsius);
  if (readings.length > READINGS) readings.shift();
  const low = Math.min(...readings) - 0.5, high = Math.max(...readings) + 0.5;
  const points = readings.map((celsius, at) =>
    `${(300 - (readings.length - 1 - at) * (300 / (READINGS - 1))).toFixed(1)} ${(90 - 90 * (celsius - low) / (high - low)).toFixed(1)}`);
  const first = points[0].split(" ")[0];
  field("curve").setAttribute("d", `M${points.join(" L")}`);
  field("area").setAttribute("d", `M${first} 90 L${points.join(" L")} L300 90 Z`);
}

function showLamp([state], _, details) {
  log(details.retained ? "retained" : "event", "demo.lamp.state", state);
  if (typeof state?.on !== "boolean") return;
  lamp = state;
  field("power").setAttribute("aria-pressed", lamp.on);
  field("glow").style.opacity = lamp.on ? lamp.brightness / 130 : 0;
  field("lamp-text").textContent = lamp.on ? `on, at ${lamp.brightness} %` : "off";
  if (document.activeElement !== field("brightness")) field("brightness").value = lamp.brightness;
  field("brightness-text").textContent = `${field("brightness").value} %`;
}

/** Says what is missing and which command starts it; nothing, if all are here. */
function hint(text, command) {
  field("hint").replaceChildren(`${text ?? ""} `, element("code", command ?? ""));
  field("hint").hidden = !text;
}

function hintOfDevice(isOnline) {
  hint(isOnline ? "" : "No device is here. Start one in another terminal:", "corsac demo");
}

function showPresence([isOnline], _, details) {
  log(details.retained ? "retained" : "event", "demo.device.online", isOnline);
  hintOfDevice(isOnline === true);
  for (const id of ["power", "brightness"]) field(id).disabled = isOnline !== true;
}

function showChat([message]) {
  log("event", "demo.chat", message);
  line(field("chat"), `${message?.from ?? "somebody"}: ${message?.text ?? JSON.stringify(message)}`);
}

async function setLamp(session, change) {
  log("call", "demo.lamp.set", change);
  try {
    log("result", "demo.lamp.set", await session.call("demo.lamp.set", [change], { timeout: 3000 }));
    field("lamp-error").textContent = "";
  } catch (error) {
    log("error", "demo.lamp.set", error.message);
    field("lamp-error").textContent = `The device did not do it: ${error.message}`;
  }
}

async function say(session, text) {
  const message = { from: "page", text };
  try {
    await session.publish("demo.chat", [message]);
    log("publish", "demo.chat", message);
    line(field("chat"), text).className = "mine";
    field("chat").scrollTop = field("chat").scrollHeight;
  } catch (error) {
    log("error", "demo.chat", error.message);
  }
}

/** The page's procedure: the device calls it. */
function greet([caller]) {
  const answer = `${field("greeting").value}, ${caller ?? "somebody"}!`;
  log("invocation", "demo.page.greet", answer);
  line(field("calls"), element("time", clock()), `${caller ?? "Somebody"} called, and was told: ${answer}`);
  return answer;
}

async function join(session) {
  field("session").textContent = `joined ${session.realm}`;
  field("session").classList.add("joined");
  document.querySelector("main").classList.remove("stale");
  hintOfDevice(false);
  field("say").querySelector("button").disabled = false;
  const retained = { get_retained: true };
  await session.subscribe("demo.device.online", showPresence, retained);
  await session.subscribe("demo.lamp.state", showLamp, retained);
  await session.subscribe("demo.den.temperature", showTemperature);
  await session.subscribe("demo.chat", showChat);
  // Every open page serves it, and the router asks them in turn.
  await session.register("demo.page.greet", greet, { invoke: "roundrobin" });
}

function leave(reason) {
  field("session").textContent = `not joined: ${reason}`;
  field("session").classList.remove("joined");
  document.querySelector("main").classList.add("stale");
  const isAway = reason === "no connection";
  hint(isAway && "The router does not answer, and this page tries again. If it has stopped, start it in a terminal:", "corsac");
  for (const control of [field("power"), field("brightness"), field("say").querySelector("button")]) control.disabled = true;
}

const session = new WampSession(`${location.protocol.replace("http", "ws")}//${location.host}/ws`, "realm1", {
  onJoin: (joined) => join(joined).catch((error) => leave(error.message)),
  onLeave: leave,
});

field("power").addEventListener("click", () => setLamp(session, { on: !lamp.on }));
field("brightness").addEventListener("change", () => setLamp(session, { on: true, brightness: Number(field("brightness").value) }));
field("brightness").addEventListener("input", () => { field("brightness-text").textContent = `${field("brightness").value} %`; });
field("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field("text").value.trim() || field("text").placeholder;
  field("text").value = "";
  say(session, text);
});

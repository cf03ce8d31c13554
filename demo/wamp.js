"use strict";
// WAMP v2 over the browser's own WebSocket, in JSON: what a page needs to publish, subscribe, call and serve.
const HELLO = 1, WELCOME = 2, ABORT = 3, GOODBYE = 6, ERROR = 8, PUBLISH = 16, PUBLISHED = 17, SUBSCRIBE = 32, SUBSCRIBED = 33,
  EVENT = 36, CALL = 48, RESULT = 50, REGISTER = 64, REGISTERED = 65, INVOCATION = 68, YIELD = 70;

/** What came back instead of a result: `uri` says what, `args` what the other side says about it. */
class WampError extends Error {
  constructor(uri, args = []) {
    super([uri, ...args].join(" "));
    this.uri = uri;
    this.args = args;
  }
}

/** One session of a realm. After the connection is lost it is opened again, and `onJoin` is called again. */
class WampSession {
  #socket;
  #lastRequest = 0;
  #requests = new Map(); // request id -> how its promise ends
  #handlers = new Map(); // "event" and a subscription id, or "call" and a registration id -> who handles it
  #reason; // why the router ended the session

  constructor(url, realm, { onJoin, onLeave }) {
    Object.assign(this, { url, realm, onJoin, onLeave });
    this.#open();
  }

  /** Resolves to the id of the publication once the router has taken it. */
  publish(topic, args, options = {}) {
    return this.#request(PUBLISH, { acknowledge: true, ...options }, topic, args);
  }

  /** `handler(args, kwargs, details)` is called for every event. */
  async subscribe(topic, handler, options = {}) {
    // The first events may come right behind the answer: the handler is in place before anything else is read.
    await this.#request(SUBSCRIBE, options, topic, undefined, (id) => this.#handlers.set(`event ${id}`, handler));
  }

  /** Resolves to the first argument of the result. */
  call(procedure, args = [], options = {}) {
    return this.#request(CALL, options, procedure, args);
  }

  /** What `handler(args, kwargs, details)` returns, or its promise resolves to, is the result of a call. */
  async register(procedure, handler, options = {}) {
    await this.#request(REGISTER, options, procedure, undefined, (id) => this.#handlers.set(`call ${id}`, handler));
  }

  #open() {
    this.#socket = new WebSocket(this.url, "wamp.2.json");
    this.#socket.onopen = () => this.#send([HELLO, this.realm, { agent: "demo page",
      roles: { publisher: {}, subscriber: {}, caller: {}, callee: {} } }]);
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#socket.onclose = () => {
      for (const { reject } of this.#requests.values()) reject(new WampError("connection lost"));
      this.#requests.clear();
      this.#handlers.clear();
      this.onLeave(this.#reason ?? "no connection");
      this.#reason = undefined;
      setTimeout(() => this.#open(), 1000);
    };
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #request(code, options, name, args, onDone) {
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(new WampError("connection lost"));
    const id = ++this.#lastRequest;
    this.#send(args === undefined ? [code, id, options, name] : [code, id, options, name, args]);
    return new Promise((resolve, reject) => this.#requests.set(id, {
      resolve: (value) => { onDone?.(value); resolve(value); }, reject }));
  }

  #end(id, how, value) {
    this.#requests.get(id)?.[how](value);
    this.#requests.delete(id);
  }

  #receive([code, ...message]) {
    switch (code) {
      case WELCOME:
        this.#lastRequest = 0; // requests are counted anew in each session
        return this.onJoin(this);
      case ABORT: case GOODBYE:
        this.#reason = message[1];
        if (code === GOODBYE) this.#send([GOODBYE, {}, "wamp.close.goodbye_and_out"]);
        return this.#socket.close();
      case PUBLISHED: case SUBSCRIBED: case REGISTERED:
        return this.#end(message[0], "resolve", message[1]);
      case RESULT:
        return this.#end(message[0], "resolve", message[2]?.[0]);
      case ERROR:
        return this.#end(message[1], "reject", new WampError(message[3], message[4]));
      case EVENT:
        return this.#handlers.get(`event ${message[0]}`)?.(message[3] ?? [], message[4] ?? {}, message[2]);
      case INVOCATION:
        return this.#serve(message);
    }
  }

  async #serve([invocation, registration, details, args = [], kwargs = {}]) {
    try {
      const result = await this.#handlers.get(`call ${registration}`)(args, kwargs, details);
      this.#send([YIELD, invocation, {}, [result ?? null]]);
    } catch (error) {
      this.#send([ERROR, INVOCATION, invocation, {}, error.uri ?? "wamp.error.runtime_error", [error.message]]);
    }
  }
}

// What notifyd.js finds around it in a browser, here in the hands of a test: the network, the
// clock, the timers and chance.
(() => {
  "use strict";

  const realTimeout = window.setTimeout;
  const settle = () => new Promise((resolve) => realTimeout(resolve, 0));

  let time = 1e12;
  let timers = [];
  let lastTimer = 0;
  let settleRequest = null;

  const world = (window.world = {
    random: 0.5,
    requests: [],
    sockets: [],
    // The most sockets in use, requests under way and timers that there ever were at once.
    most: { sockets: 0, requests: 0, timers: 0 },
    now: () => ({
      sockets: world.sockets.filter((socket) => socket.readyState < 2).length,
      requests: world.requests.filter((request) => request.pending).length,
      timers: timers.length,
    }),

    // Let time pass, and what is due in it happen; or let it pass as while a computer sleeps.
    async pass(seconds) {
      const end = time + seconds * 1000;
      for (;;) {
        const [next] = timers.filter((timer) => timer.due <= end).sort((a, b) => a.due - b.due);
        if (!next) break;
        timers = timers.filter((timer) => timer !== next);
        time = Math.max(time, next.due);
        next.action();
        await settle();
      }
      time = end;
    },
    sleep(seconds) {
      time += seconds * 1000;
      for (const timer of timers) timer.due += seconds * 1000;
    },

    // Answer the last request; without a status nobody does. A redirect looks like status 0.
    async answer(status, body = { url: "ws://notifyd/", token: "the token" }) {
      const { resolve, reject } = settleRequest;
      if (status === null) reject(new TypeError("Failed to fetch"));
      else if (status === 0) resolve({ ok: false, status: 0 });
      else resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), { status }));
      await settle();
    },

    // What the last WebSocket does, or another one: whatever is possible in the state it is in.
    open(socket = last()) {
      if (!socket || socket.readyState !== 0) return;
      socket.readyState = 1;
      if (socket.onopen) socket.onopen({});
    },
    say(frame, socket = last()) {
      if (!socket || socket.readyState < 1 || socket.readyState > 2) return;
      if (socket.onmessage) socket.onmessage({ data: JSON.stringify(frame) });
    },
    async end(code, socket = last()) {
      if (!socket || socket.readyState > 2) return;
      socket.readyState = 3;
      if (socket.onclose) socket.onclose({ code });
      await settle();
    },

    // What the browser tells the page.
    async happen(event) {
      window.dispatchEvent(event);
      await settle();
    },
    show(hidden) {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    },
  });

  const last = () => world.sockets[world.sockets.length - 1];

  function count() {
    const now = world.now();
    for (const kind of Object.keys(now)) world.most[kind] = Math.max(world.most[kind], now[kind]);
  }

  Date.now = () => time;
  Math.random = () => world.random;
  window.setTimeout = (action, delay) => {
    timers.push({ number: ++lastTimer, action, due: time + delay });
    count();
    return lastTimer;
  };
  window.clearTimeout = (number) => {
    timers = timers.filter((timer) => timer.number !== number);
  };
  window.fetch = (url, { signal, ...options }) =>
    new Promise((resolve, reject) => {
      const request = { url, options, pending: true };
      const end = (how) => (value) => {
        request.pending = false;
        how(value);
      };
      settleRequest = { resolve: end(resolve), reject: end(reject) };
      const abort = () => end(reject)(new DOMException("", "AbortError"));
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort);
      world.requests.push(request);
      count();
    });
  window.WebSocket = class {
    constructor(url) {
      Object.assign(this, { url, readyState: 0, sent: [], code: null });
      world.sockets.push(this);
      count();
    }
    send(text) {
      this.sent.push(text);
    }
    close(code) {
      if (this.readyState < 2) Object.assign(this, { readyState: 2, code });
    }
  };

  world.names = Object.getOwnPropertyNames(window);
})();

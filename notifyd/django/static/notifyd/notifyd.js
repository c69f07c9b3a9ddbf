/**
 * Live events of notifyd in a page. `{% load notifyd %}{% notifyd %}` in its template brings it.
 *
 * It holds one WebSocket, comes back by itself after whatever ends it, goes on where it was, and
 * tells the page by events that it dispatches on `document`:
 *
 * - `notifyd:event`: something has happened. `detail` is the event as the site has published it,
 *   with its `id`.
 * - `notifyd:state`: the connection is in another state. `detail` is a {@link State}.
 * - `notifyd:resync`: events may be missing, so what the page shows should be loaded anew.
 *   `detail` is the daemon's message, with a `reason` in words.
 *
 * Listeners that are there at DOMContentLoaded, as those of deferred scripts are, miss nothing.
 *
 * @typedef {object} State
 * @property {"connecting"|"open"|"waiting"|"stopped"} state
 *   Waiting is for the next attempt; stopped is for good, until the page is loaded anew.
 * @property {?number} code
 *   What led there: the WebSocket's close code or, below 1000, the HTTP status with which the site
 *   refused a token. Null where there is none: nobody answered.
 * @property {?number} retry_in The seconds of waiting; null in other states, and in a page that
 *   was left and is kept for the way back.
 */
(() => {
  "use strict";

  // A page that includes the script twice has one connection all the same.
  if (window.notifyd) return;

  const { tokenUrl, csrfToken, since, epoch: era } = document.currentScript.dataset;

  // All times are in seconds. The waits grow from the first to the longest.
  const FIRST_WAIT = 2;
  const LONGEST_WAIT = 60;
  // The least that an overloaded daemon or site is left alone.
  const REST = 5;
  // Before a new token is fetched: a log-out is told just before the site ends the session, which
  // would give one more.
  const MOMENT = 0.5;
  // What the daemon asks for is kept, within reason: a timer of a month would fire at once.
  const LONGEST_ASKED = 3600;
  // From the start of an attempt to the welcome. It is more than the daemon allows a slow database,
  // because then the daemon's own answer, a close code, tells more.
  const PATIENCE = 30;
  // How much later than promised the daemon's ping may come, over a slow link.
  const GRACE = 10;
  // What lasted as long as this was a good connection: the next failure counts as the first.
  const STEADY = 10;
  // How often a ticket is tried before the site is asked again: the daemon may have moved.
  const TRIES = 3;

  // The site's refusals and the daemon's, after which the same would happen again. Of the site's,
  // 401 means that nobody is logged in, 403 that somebody else is by now, or again, and 0 is a
  // redirect, which can only lead to a log-in page.
  const FINAL = [0, 401, 403, 1000, 1001, 1002, 1003, 1007, 1009, 4400, 4403];
  // After these it would not, unless everybody tried at once.
  const BUSY = [429, 503, 1011, 1013, 4429];
  // Who it is has to be shown anew, by a fresh token. If two of them are refused, so would be all.
  const UNAUTHENTICATED = 4401;
  // After these a ticket is of no use any more. A token may be: it is newer, and shorter, and
  // daemons of all versions know it.
  const TICKET_SPENT = [1009, 4400, UNAUTHENTICATED, 4410];

  /** @type {State} */
  let now = { state: "connecting", code: null, retry_in: null };
  // The only timer: of the next attempt while waiting, otherwise of patience with the other side.
  let timer = null;
  // What an attempt is made of. The request stays until the next one, as the attempt's name: once
  // it was aborted, whoever still holds it belongs to the past and has nothing to say.
  let request = null;
  let socket = null;
  // Attempts since the last good connection.
  let failures = 0;
  // Fresh tokens that were refused in a row.
  let refusals = 0;
  // When the connection was opened and last heard of, and how long it may be silent.
  let opened = Infinity;
  let heard = 0;
  let silence = PATIENCE;
  // The wait that the daemon has asked for before closing.
  let asked = null;
  // When the waiting is over, and whether it may end earlier: nobody asked for it.
  let due = 0;
  let hasty = false;
  // Where the site has said that the daemon is.
  let url = null;
  // What lets the page in again without asking the site, and until when. Like all the rest it is
  // in memory only: other pages, and a copy of this one, are to show by themselves who they are.
  let ticket = null;
  // Attempts with a ticket, since the last token or welcome.
  let tries = 0;
  // The history that the daemon reads from, and where in it the page is: at the last id that was
  // heard, together with the epoch of that moment. An id is a name, to be kept and given back.
  let epoch = era || undefined;
  let position = since ? { since, epoch } : {};
  // Where the page will be once it was told that it has missed something.
  let skipped = null;

  // The part of the events that the daemon wants acknowledged, and when one last was.
  let sample = 0;
  let acknowledged = 0;

  // It goes on while a computer sleeps. If somebody sets it, a ticket counts as good for too long,
  // or for too short a time: then it is refused or not used, and a token follows.
  const clock = () => Date.now() / 1000;

  function dispatch(kind, detail) {
    document.dispatchEvent(new CustomEvent(`notifyd:${kind}`, { detail }));
  }

  function become(state, code = null, retryIn = null) {
    now = { state, code, retry_in: retryIn };
    dispatch("state", Object.assign({}, now));
  }

  function after(seconds, action) {
    clearTimeout(timer);
    timer = setTimeout(action, seconds * 1000);
  }

  // Give up whatever is under way or open: there are never two of it.
  function abandon() {
    clearTimeout(timer);
    if (request) request.abort();
    if (socket) {
      // Over a dead link its end comes a minute later, and is not that of its successor.
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    socket = null;
  }

  function stop(code) {
    abandon();
    ticket = null;
    become("stopped", code);
  }

  function wait(code, seconds) {
    abandon();
    due = clock() + seconds;
    after(seconds, connect);
    become("waiting", code, seconds);
  }

  // Decide what follows the end of an attempt or a connection; no code means that it just ended.
  function lost(code) {
    const spent = TICKET_SPENT.includes(code);
    const stale = spent && tries > 0;
    if (spent) ticket = null;
    const wasOpen = opened < Infinity;
    const refused = code === UNAUTHENTICATED && !wasOpen && !stale;
    refusals = refused ? refusals + 1 : 0;
    if (!stale && (refusals > 1 || FINAL.includes(code))) return stop(code);
    if (clock() - opened > STEADY) failures = 0;
    opened = Infinity;
    const busy = BUSY.includes(code);
    hasty = asked === null && !busy;
    // With full jitter, the pages that a restart has cut off do not come back all at once. What
    // has failed before a ticket was refused says nothing of the token that follows.
    const most = stale ? FIRST_WAIT : Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);
    const least = busy ? REST : spent && wasOpen ? MOMENT : 0;
    failures += 1;
    wait(code, asked === null ? least + Math.random() * most : asked);
  }

  // Tokens are good for seconds, and for this page's user of this moment: never use one twice.
  async function fetchToken(signal) {
    const response = await fetch(tokenUrl, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken },
      credentials: "same-origin",
      cache: "no-store",
      redirect: "manual",
      signal,
    });
    return response.ok ? response.json() : { status: response.status };
  }

  async function connect() {
    abandon();
    asked = null;
    silence = PATIENCE;
    after(silence, () => lost(null));
    const { signal } = (request = new AbortController());
    become("connecting", now.code);
    if (ticket && clock() < ticket.until && tries < TRIES) {
      tries += 1;
      return open({ ticket: ticket.text });
    }
    // If the site does not answer either, it is the ticket's turn again.
    tries = 0;
    // No answer, and one that is no JSON, is a failure like any other.
    const answer = await fetchToken(signal).catch(() => ({ status: null }));
    if (signal.aborted) return;
    if (!answer.token) return lost(answer.status);
    url = answer.url;
    open({ token: answer.token });
  }

  function open(credentials) {
    socket = new WebSocket(url);
    socket.onopen = () => socket.send(JSON.stringify(Object.assign(credentials, position)));
    socket.onmessage = (message) => receive(JSON.parse(message.data));
    socket.onclose = (close) => lost(close.code);
  }

  function moveTo(id) {
    if (id) position = { since: id, epoch };
  }

  function keepTicket(frame) {
    if (frame.ticket) ticket = { text: frame.ticket, until: heard + frame.ticket_ttl };
  }

  function welcome(frame) {
    opened = heard;
    silence = frame.ping + GRACE;
    tries = 0;
    sample = frame.ack;
    keepTicket(frame);
    epoch = frame.epoch || epoch;
    // What was missed is behind the page when it was told so, by the resync that follows. If the
    // link breaks before, it asks for the same again.
    skipped = frame.recovered === false ? frame.last_id : null;
    if (!skipped) moveTo(frame.last_id);
  }

  // How long events take is known for certain only here. One in a second is enough: the daemon
  // closes the connection of whoever says much. Listeners may have closed it, too.
  function acknowledge(id) {
    if (!id || now.state !== "open" || clock() - acknowledged < 1) return;
    if (!(Math.random() < sample)) return;
    acknowledged = clock();
    socket.send(JSON.stringify({ notifyd: "ack", id }));
  }

  // The page is told last: it may close the connection in that moment.
  function receive(frame) {
    heard = clock();
    const kind = frame.notifyd;
    if (kind === "welcome") welcome(frame);
    // Browsers answer the protocol's pings without a word to the page. The daemon's own message
    // of that name, or anything else it sends, is the only sign that the link still carries.
    after(silence, () => lost(null));
    if (kind === undefined) {
      // Even one whose id was heard before, in a ping say: better told twice than never.
      moveTo(frame.id);
      dispatch("event", frame);
      acknowledge(frame.id);
    } else if (kind === "welcome") {
      become("open");
    } else if (kind === "ping") {
      moveTo(frame.last_id);
    } else if (kind === "ticket") {
      keepTicket(frame);
    } else if (kind === "resync") {
      epoch = frame.epoch || epoch;
      moveTo(frame.last_id || skipped);
      skipped = null;
      dispatch("resync", frame);
    } else if (kind === "closing") {
      asked = Math.min(frame.retry_in, LONGEST_ASKED);
    }
    // Messages of other names are a newer daemon's, and there is nothing to do about them.
  }

  // Somebody looks at the page again, or the network is back: do not wait as if all were lost.
  function hurry() {
    // Timers stand still while a computer sleeps, its clock does not.
    if (now.state === "open" && clock() - heard > silence) return lost(null);
    // The network of a whole office comes back at once, hence the jitter here too.
    const soon = Math.random() * FIRST_WAIT;
    if (now.state === "waiting" && hasty && soon < due - clock()) wait(now.code, soon);
  }

  function begin() {
    if (now.state === "connecting" && !request) connect();
  }

  window.addEventListener("online", hurry);
  document.addEventListener("visibilitychange", () => document.hidden || hurry());

  // A page that is left may be kept for the way back, frozen: its connection would be a dead one,
  // and in some browsers would keep it from being kept.
  window.addEventListener("pagehide", () => {
    if (now.state === "stopped") return;
    abandon();
    hasty = false;
    // Whoever finds the way back may be somebody else. That is for the site to say.
    ticket = null;
    become("waiting");
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted && now.state === "waiting") connect();
  });

  window.notifyd = Object.freeze({
    /** The connection's state, as in the detail of `notifyd:state`. */
    get state() {
      return now.state;
    },
    /** Close the connection for good: there is no other until the page is loaded anew. */
    close() {
      if (now.state !== "stopped") stop(null);
    },
  });

  // The scripts behind this one add their listeners first. Whichever comes first counts: a script
  // that was inserted late has missed DOMContentLoaded.
  document.addEventListener("DOMContentLoaded", begin);
  window.addEventListener("load", begin);
  if (document.readyState === "complete") begin();
})();

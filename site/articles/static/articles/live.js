// What notifyd.js tells the page, as people see it: a dot in the header, and a quiet list of what
// the others are doing.
(() => {
  "use strict";

  const MOST = 5;
  const WORDS = {
    connecting: "connecting",
    open: "live",
    waiting: "reconnecting",
    stopped: "stopped",
  };

  const dot = document.getElementById("live-state");
  const list = document.getElementById("live-events");
  // Only whoever is logged in has them.
  if (!dot || !list) return;
  const addresses = JSON.parse(document.getElementById("live-addresses").textContent);

  // Text, never HTML: what somebody has typed into a headline shall do nothing here.
  function element(tag, text, properties = {}) {
    return Object.assign(document.createElement(tag), { textContent: text }, properties);
  }

  function show(initial, ...parts) {
    const item = document.createElement("li");
    item.dataset.initial = initial;
    item.append(...parts);
    list.prepend(item);
    while (list.children.length > MOST) list.lastChild.remove();
  }

  // The object's own page, unless there is none: it is gone, or not for this person to see.
  function object({ content_type_id: kind, object_id: key, object: name, message }) {
    const href = `${addresses[kind]}${encodeURIComponent(key)}/change/`;
    return addresses[kind] && message ? element("a", name, { href }) : element("b", name);
  }

  function time(timestamp) {
    const when = new Date(timestamp);
    const text = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return element("time", text, { dateTime: timestamp, title: when.toLocaleString() });
  }

  document.addEventListener("notifyd:event", ({ detail: event }) => {
    // Whatever else the site publishes is not about an object of the admin.
    if (!event.content_type_id) return;
    const head = element("p", "");
    head.append(element("strong", event.user), ` · ${event.model} · `, time(event.timestamp));
    // The admin has nothing to say of a deletion but that it was one.
    show(event.user[0], head, object(event), element("p", event.message || "Deleted."));
  });

  document.addEventListener("notifyd:state", ({ detail: { state } }) => {
    dot.dataset.state = state;
    dot.textContent = WORDS[state];
    dot.title = state === "stopped" ? "Load the page again to go on." : "";
  });

  document.addEventListener("notifyd:resync", () => {
    const reload = element("a", "Load the page again", { href: "" });
    show("!", element("p", "Something may have happened meanwhile."), reload);
  });
})();

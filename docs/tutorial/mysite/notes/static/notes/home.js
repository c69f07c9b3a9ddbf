document.addEventListener("notifyd:state", ({ detail }) => {
  document.getElementById("state").textContent = detail.state;
});

document.addEventListener("notifyd:event", ({ detail }) => {
  const line = document.createElement("li");
  line.textContent = JSON.stringify(detail);
  document.getElementById("events").prepend(line);
});

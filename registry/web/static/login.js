// /login#crt_… signs in at once. What follows # is sent to no server; it is taken out of the address and history.
const token = decodeURIComponent(location.hash.slice(1));
if (token.startsWith("crt_")) {
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("login");
  form.elements.token.value = token;
  form.requestSubmit();
}

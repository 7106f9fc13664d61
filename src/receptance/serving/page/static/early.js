// Runs before the first frame, so that a page that was set dark never flashes white.
try {
  document.documentElement.dataset.theme = localStorage.getItem("receptance.theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}

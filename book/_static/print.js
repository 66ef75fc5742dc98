// Paper is white: a dark page is printed in the light theme.
{
  const page = document.documentElement.dataset;
  let shown;
  window.addEventListener("beforeprint", () => {
    shown = page.theme;
    page.theme = "light";
  });
  window.addEventListener("afterprint", () => {
    page.theme = shown;
  });
}

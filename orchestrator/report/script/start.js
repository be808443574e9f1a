// The page without this script says the same: nothing here adds a number to it.
const plots = [...document.querySelectorAll("figure")].flatMap((figure) => {
  const data = figure.querySelector('script[type="application/json"]');
  return data ? [new Plot(figure, JSON.parse(data.textContent))] : [];
});
document.querySelectorAll("main table").forEach(makeSortable);
makeFilters();
markScrolling();
addEventListener("resize", markScrolling);
document.addEventListener("toggle", markScrolling, true);

document.documentElement.classList.add("scripted");
const box = document.getElementById("search");
const found = document.getElementById("found");
const items = [...document.querySelectorAll(".whom li, .allows tbody tr")];
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const item of items) {
    const section = item.closest(".whom");
    const text = ((section ? section.dataset.name + " " : "") + item.textContent).toLowerCase();
    item.hidden = !words.every((word) => text.includes(word));
    count += item.hidden ? 0 : 1;
  }
  for (const section of document.querySelectorAll(".whom")) {
    section.hidden = words.length > 0 && !section.querySelector("li:not([hidden])");
  }
  found.textContent = words.length ? `${count} found, of sentences and allows` : "";
});

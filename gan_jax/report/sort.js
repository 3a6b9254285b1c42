
for (const table of document.querySelectorAll("table.settings")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells]
  const key = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent.trim()
  const order = (a, b) => a - b || a.localeCompare(b)  // numbers as numbers, words as words
  heads.forEach((head, i) => {
    const button = document.createElement("button")
    button.append(...head.childNodes)
    head.append(button)
    button.onclick = () => {
      const way = head.ariaSort === "ascending" ? -1 : 1
      const last = row => key(row, i) === ""
      heads.forEach(other => other.ariaSort = null)
      head.ariaSort = way > 0 ? "ascending" : "descending"
      body.append(...[...body.rows].sort((a, b) => last(a) - last(b) || way * order(key(a, i), key(b, i))))
    }
  })
  table.classList.add("sortable")
}

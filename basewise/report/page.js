"use strict";
(() => {
  const PIECE = 100;
  const root = document.documentElement;
  const status = document.getElementById("status");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });

  const formats = new Map();
  const shown = (cell, column) => {
    if (cell === null) return "–";
    if (column.kind !== "number") return cell;
    if (!formats.has(column.digits)) {
      formats.set(column.digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: column.digits, maximumFractionDigits: column.digits }));
    }
    return formats.get(column.digits).format(cell);
  };
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const compare = (kind) => (a, b) => (kind === "number" ? a - b : words.compare(a, b));

  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  const copy = async (node) => {
    select(node);
    let done = false;
    if (navigator.clipboard) done = await navigator.clipboard.writeText(node.textContent).then(() => true, () => false);
    if (!done) done = document.execCommand("copy");
    status.textContent = done ? `${node.textContent} copied` : `${node.textContent} selected: copy it with the keyboard`;
    node.classList.add("copied");
    setTimeout(() => node.classList.remove("copied"), 1200);
  };

  const makeRow = (row, columns) => {
    const tr = document.createElement("tr");
    row.forEach((cell, i) => {
      const td = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) td.scope = "row";
      td.className = columns[i].kind;
      if (columns[i].kind === "locus" && cell !== null) {
        const code = document.createElement("code");
        code.textContent = cell;
        const button = document.createElement("button");
        button.type = "button";
        button.className = "copy";
        button.textContent = "copy";
        button.setAttribute("aria-label", `copy ${cell}`);
        td.append(code, button);
      } else {
        td.textContent = shown(cell, columns[i]);
      }
      tr.append(td);
    });
    return tr;
  };

  const wake = (block) => {
    const source = block.querySelector("script[type='application/json']");
    if (!source) return;
    const { columns, rows } = JSON.parse(source.textContent);
    const body = block.querySelector("tbody");
    const scroll = block.querySelector(".scroll");
    const heads = [...block.querySelectorAll("thead th")];
    const field = block.querySelector("input[type='search']");
    const count = block.querySelector(".count");
    const more = block.querySelector(".more");
    let order = rows.map((_, i) => i);
    let visible = order;
    let drawn = 0;
    let texts = null;

    const draw = (upTo) => {
      const piece = document.createDocumentFragment();
      const end = Math.min(upTo, visible.length);
      for (; drawn < end; drawn += 1) piece.append(makeRow(rows[visible[drawn]], columns));
      body.append(piece);
    };
    const refresh = () => {
      const asked = field ? field.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      if (asked.length && !texts) texts = rows.map((row) => row.map((cell, i) => shown(cell, columns[i])).join("\t").toLowerCase());
      visible = asked.length ? order.filter((i) => asked.every((word) => texts[i].includes(word))) : order;
      body.replaceChildren();
      drawn = 0;
      scroll.scrollTop = 0;
      draw(PIECE);
      if (count) {
        const all = rows.length.toLocaleString("en-US");
        count.textContent = asked.length ? `${visible.length.toLocaleString("en-US")} of ${all} rows` : `${all} rows`;
      }
    };
    heads.forEach((head, at) => {
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const down = before === "ascending" || (before === "none" && columns[at].kind === "number");
        heads.forEach((other) => other.setAttribute("aria-sort", other === head ? (down ? "descending" : "ascending") : "none"));
        const by = compare(columns[at].kind);
        order = rows.map((_, i) => i).sort((a, b) => {
          const [x, y] = [rows[a][at], rows[b][at]];
          if (x === null || y === null) return (x === null) - (y === null) || a - b;
          return (down ? by(y, x) : by(x, y)) || a - b;
        });
        refresh();
      });
    });
    if (field) field.addEventListener("input", refresh);
    scroll.addEventListener("scroll", () => {
      if (drawn < visible.length && scroll.scrollTop + scroll.clientHeight > scroll.scrollHeight - 400) draw(drawn + PIECE);
    }, { passive: true });
    body.addEventListener("click", (event) => {
      const button = event.target.closest("button.copy");
      if (button) copy(button.previousElementSibling);
    });
    if (more) more.remove();
    refresh();
  };
  document.querySelectorAll("div.table").forEach(wake);
})();

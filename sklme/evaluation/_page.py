"""Pieces of a page that needs nothing but itself: tables, figures, sections, style."""

import re
from base64 import b64encode
from html import escape
from io import BytesIO

from sklme._axes import pyplot

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.2rem 3rem; background: #fff;
  color: #1b1b1b; font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 2px solid #0072b2; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { max-width: 46rem; margin: .5rem 0; }
.date, figcaption, .note { color: #555; font-size: .88rem; }
.lead { background: #eef5fa; border-left: 5px solid #0072b2; padding: .5rem 1rem;
  font-size: 1.08rem; }
.lead p { max-width: none; }
.scroll { overflow-x: auto; margin: .8rem 0; }
.scroll:focus-visible { outline: 2px solid #0072b2; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding: 0 0 .4rem; }
th, td { padding: .28rem .75rem .28rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid #ddd; white-space: nowrap; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
th[scope=row], .text { text-align: left; }
th[scope=row] { white-space: normal; min-width: 9.5rem; max-width: 18rem; overflow-wrap: anywhere; }
td.text { white-space: normal; min-width: 14rem; }
.pale { color: #666; }
figure { margin: .8rem 0 1.4rem; }
img { max-width: 100%; height: auto; display: block; }
.pair { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.pair figure { flex: 0 1 31rem; }
dl { font-size: .92rem; display: grid; grid-template-columns: minmax(9rem, 16rem) 1fr;
  gap: .35rem 1.2rem; }
dt { font-weight: 600; overflow-wrap: anywhere; }
dd { margin: 0; max-width: 46rem; overflow-wrap: anywhere; }
td span { display: block; color: #555; font-size: .92em; }
pre { background: #f5f5f5; padding: .6rem .8rem; margin: .3rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .82rem; }
.small dl, .small p { font-size: .8rem; color: #444; }
@media (max-width: 640px) {
  body { padding: 1rem .8rem 2rem; }
  h1 { font-size: 1.35rem; }
  .wide img { max-width: none; width: 44rem; }
  dl { display: block; }
  dt { margin-top: .6rem; }
  th[scope=row] { min-width: 5.5rem; max-width: 9rem; }
}
@media print {
  @page { margin: 15mm 13mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3 { break-after: avoid; }
  h2 + p { break-after: avoid; }
  figure, p, tr, .lead, dt, dd { break-inside: avoid; }
  figure img { max-height: 235mm; width: auto; }
  .wide img { max-width: 125mm; }
  .wide img, figure { margin: 0 0 2mm; }
  .pair { display: block; }
  .pair figure { display: inline-block; width: 48%; vertical-align: top; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { white-space: normal; padding-right: .5rem; }
  td.text { min-width: 0; }
  thead { display: table-header-group; }
}
"""
# Nothing from outside is loaded, whatever the texts hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title, body):
    """The whole page."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def section(heading, *parts, kind=""):
    """A heading of the second rank and what belongs under it; nothing if that is empty."""
    parts = [part for part in parts if part]
    if not parts:
        return ""
    slug = re.sub(r"[^a-z]+", "-", heading.lower()).strip("-")
    of = f' class="{kind}"' if kind else ""
    inside = "\n".join(parts)
    return (
        f'<section{of} aria-labelledby="{slug}">\n<h2 id="{slug}">{escape(heading)}</h2>\n'
        f"{inside}\n</section>"
    )


def heading(text):
    """A heading of the third rank."""
    return f"<h3>{escape(capitalized(text))}</h3>"


def capitalized(text):
    """The first letter as at the start of a sentence; the others as they are."""
    return text[:1].upper() + text[1:]


def paragraph(text, kind=""):
    """Plain text as a paragraph."""
    inside = escape(text).replace(" %", "\N{NO-BREAK SPACE}%")
    return f'<p class="{kind}">{inside}</p>' if kind else f"<p>{inside}</p>"


def table(caption, head, rows, *, text=(), pale=frozenset()):
    """A table whose first cell in each row names it; it scrolls where the screen is narrow.

    Columns at the positions `text` hold sentences; cells at (row, column) in `pale` are grey. What
    follows the end of a line within a cell is small print.
    """
    left = {0, *text}
    heads = "".join(_cell("th", cell, 'scope="col"', i in left) for i, cell in enumerate(head))
    lines = []
    for r, row in enumerate(rows):
        first = _cell("th", row[0], 'scope="row"', False, (r, 0) in pale)
        rest = (_cell("td", v, "", i in left, (r, i) in pale) for i, v in enumerate(row) if i)
        lines.append(f"<tr>{first}{''.join(rest)}</tr>")
    body = "\n".join(lines)
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n<table>\n'
        f"<caption>{label}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _cell(tag, value, scope, text, pale=False):
    kinds = " ".join(kind for kind, on in (("text", text), ("pale", pale)) if on)
    attributes = [scope, f'class="{kinds}"' if kinds else ""]
    opening = " ".join([tag, *(a for a in attributes if a)])
    first, _, second = str(value).partition("\n")
    below = f"<span>{escape(second)}</span>" if second else ""
    return f"<{opening}>{escape(first)}{below}</{tag}>"


def definitions(pairs):
    """Terms and what they mean; a list of one text is shown as code."""
    lines = []
    for term, meaning in pairs:
        code = isinstance(meaning, list)
        inside = f"<pre>{escape(meaning[0])}</pre>" if code else escape(str(meaning))
        lines.append(f"<dt>{escape(str(term))}</dt>\n<dd>{inside}</dd>")
    return "<dl>\n" + "\n".join(lines) + "\n</dl>"


def figure(drawn, alt, caption="", *, wide=False):
    """A matplotlib figure as a picture inside the page; the figure is closed."""
    buffer = BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot().close(drawn)
    data = b64encode(buffer.getvalue()).decode("ascii")
    image = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
    below = f"\n<figcaption>{escape(caption)}</figcaption>" if caption else ""
    if wide:
        label = 'role="group" aria-label="picture, scrolls sideways" tabindex="0"'
        image = f'<div class="scroll wide" {label}>{image}</div>'
    return f"<figure>\n{image}{below}\n</figure>"

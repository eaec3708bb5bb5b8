"""The Jinja templates and the stylesheet of Data Docs.

They are code, so no file can be missing from an installation.
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5c6672; --line: #dde2e8; --back: #f6f7f9; --card: #fff;
  --good: #1a7f47; --warn: #a15c00; --bad: #b3261e; --info: #2861a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b1; --line: #313943; --back: #14181d;
  --card: #1c2229; --good: #4cc483; --warn: #e2a04a; --bad: #f2847c; --info: #7fb1f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
a { color: var(--info); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 24px; margin: 4px 0 2px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 32px 0 10px; }
.soft { color: var(--soft); } .right { text-align: right; font-variant-numeric: tabular-nums; }
.badge { display: inline-block; padding: 1px 9px; border-radius: 10px; font-size: 12.5px; font-weight: 600;
  border: 1px solid currentColor; white-space: nowrap; }
.good { color: var(--good); } .warning { color: var(--warn); } .critical { color: var(--bad); } .info { color: var(--info); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 18px; min-width: 130px; }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow-x: auto; margin-bottom: 14px; }
.card > h3 { margin: 0; padding: 8px 14px; font-size: 15px; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; font-size: 13px; color: var(--soft); }
th, td { padding: 7px 14px; vertical-align: top; } tbody tr + tr > td { border-top: 1px solid var(--line); }
code { font: 13px ui-monospace, Menlo, Consolas, monospace; }
.bar { display: inline-block; width: 90px; height: 8px; border-radius: 4px; background: var(--line); margin-left: 8px; }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--warn); }
.table td .table-bordered { width: auto; margin-top: 6px; font-size: 13.5px; border: 1px solid var(--line); }
.table-bordered th, .table-bordered td { padding: 3px 10px; }
.table-bordered td:last-child { max-width: 420px; overflow-wrap: anywhere; }
.text-danger { color: var(--bad); } .text-success { color: var(--good); }
.fa-times::before { content: "\\2717"; } .fa-check-circle::before { content: "\\2713"; }
.fa-exclamation-triangle::before { content: "!"; } .fas { font-style: normal; font-weight: 700; }
.card .table > thead th:first-child { width: 70px; } .card .table > thead th:last-child { width: 170px; }
.filter { margin: 0 0 10px; display: block; }
body:has(#broken-only:checked) .table > tbody > tr:has(> .hide-succeeded-validation-target-child) { display: none; }
body:has(#broken-only:checked) section.card:not(:has(.text-danger)) { display: none; }
.history { display: flex; align-items: flex-end; gap: 3px; height: 64px; padding: 8px 14px; }
.history a { flex: 0 1 14px; min-width: 3px; height: 100%; display: flex; align-items: flex-end; }
.history i { width: 100%; background: var(--warn); border-radius: 2px 2px 0 0; min-height: 3px; }
.history .good i { background: var(--good); } .history .critical i { background: var(--bad); }
"""

BASE = (
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{% block title %}{% endblock %}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body><main>{% block main %}{% endblock %}</main></body>
</html>
"""
)

_VERDICT = """{% macro verdict(record) -%}
{% if record.critical %}<span class="badge critical">unusable</span>
{% elif record.bad %}<span class="badge warning">{{ "{:,}".format(record.bad) }} quarantined</span>
{% else %}<span class="badge good">all good</span>{% endif %}
{%- endmacro %}
"""

RUN_PAGE = (
    '{% extends "base.html" %}\n'
    + _VERDICT
    + """
{% block title %}{{ record.run_name }}: manifest check{% endblock %}
{% block main %}
<a href="{{ index }}">all checks</a>
<h1>{{ record.run_name }}</h1>
<div class="soft">Manifest check of {{ record.at }} {{ verdict(record) }}</div>
<div class="tiles">
<div class="tile"><b>{{ "{:,}".format(record.rows) }}</b>images</div>
<div class="tile"><b class="good">{{ "{:,}".format(record.rows - record.bad) if not record.critical else 0 }}</b>good</div>
<div class="tile"><b class="{{ 'warning' if record.bad }}">{{ "{:,}".format(record.bad) }}</b>quarantined{% if record.bad %}
 ({{ "%.3g" | format(100 * record.bad / record.rows) }} %){% endif %}</div>
<div class="tile"><b>{{ outcomes | length - broken | length }}<span class="soft"> / {{ outcomes | length }}</span></b>expectations met</div>
</div>
<h2>What is broken</h2>
{% if broken %}
<div class="card"><table>
<thead><tr><th>Expectation</th><th>Severity</th><th>Meaning</th><th class="right">Broken by</th></tr></thead><tbody>
{% for outcome in broken %}
<tr><td><a href="#{{ outcome.column or 'manifest' }}"><code>{{ outcome.name }}</code></a></td>
<td><span class="badge {{ outcome.severity }}">{{ outcome.severity }}</span></td>
<td>{{ outcome.description }}</td>
<td class="right">{{ "{:,}".format(outcome.unexpected) }}
{%- if outcome.evaluated %}<span class="bar"><i style="width: {{ [100 * outcome.unexpected / outcome.evaluated, 2] | max | round(1) }}%"></i></span>{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}<p>Nothing.</p>{% endif %}
<h2>Every expectation, by field</h2>
<label class="filter"><input type="checkbox" id="broken-only"> only what is broken</label>
{% for field, section in sections %}
<section class="card" id="{{ field }}"><h3>{{ field }}</h3>
{% set section_loop = loop %}{% include "section.j2" %}
</section>
{% endfor %}
<p class="soft">A URL is shown as scheme and host only, an id as its length, boxes as the number of faulty ones per image.
The last column of each inner table holds row numbers of the manifest; <code>cropline quarantine show</code> prints these rows.</p>
{% endblock %}
"""
)

INDEX_PAGE = (
    '{% extends "base.html" %}\n'
    + _VERDICT
    + """
{% block title %}Manifest checks{% endblock %}
{% block main %}
<h1>Manifest checks</h1>
<div class="soft">The newest {{ records | length }}; older pages are below <code>runs/</code>, by day.</div>
{% if records %}
<h2>Share of rows quarantined</h2>
<div class="card"><div class="history">
{% for record in recent %}
<a href="{{ record.page }}" title="{{ record.at }}: {{ record.bad }} of {{ record.rows }}"
 class="{{ 'critical' if record.critical else '' if record.bad else 'good' }}"><i style="height: {{
 100 if record.critical else (100 * record.bad / record.rows) | round(1) if record.rows else 0 }}%"></i></a>
{% endfor %}
</div></div>
<h2>Checks</h2>
<div class="card"><table>
<thead><tr><th>When</th><th>Run</th><th class="right">Images</th><th>Verdict</th><th>Broken most</th></tr></thead><tbody>
{% for record in records %}
<tr><td style="white-space: nowrap">{{ record.at }}</td><td><a href="{{ record.page }}">{{ record.run_name }}</a></td>
<td class="right">{{ "{:,}".format(record.rows) }}</td><td>{{ verdict(record) }}</td>
<td>{% for name, count in record.broken %}<code>{{ name }}</code> {{ "{:,}".format(count) }}{{ ", " if not loop.last }}{% endfor %}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endblock %}
"""
)

//! How the page looks, by day and by night, on a screen and on a phone.

/// The style sheet.
pub const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d8dee4;--card:#f6f8fa;--c0:#0b5fd0;--c1:#c2410c;--c2:#0a7d5c;--look:#b42318}
@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--fg:#e6e8eb;--dim:#9aa4af;--line:#30363d;--card:#171b21;--c0:#6cb0ff;--c1:#ff9a5c;--c2:#4fd1a5;--look:#ff8f85}}
body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.5rem;margin:0 0 1rem}
dl div,figure,pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
dl div{padding:.5rem .75rem}dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.1rem;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.75rem}
figure{margin:0;padding:.75rem}figcaption b{display:block}figcaption{font-size:.9rem}
figcaption span{display:inline-block;margin-right:1rem;font-variant-numeric:tabular-nums}
figcaption i{display:inline-block;width:1rem;height:.2rem;margin-right:.35rem;vertical-align:middle}
figcaption small{display:block}figcaption small,.note{color:var(--dim);font-size:.85rem}
svg{display:block;width:100%;height:auto;margin-top:.25rem}svg text{font-size:12px;fill:var(--dim)}
svg path{fill:none;stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}svg .grid{stroke:var(--line);stroke-width:1}svg .mark{stroke:var(--dim);stroke-dasharray:4 4;stroke-width:1}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}
ul{list-style:none;margin:0;padding:0}.alarms li{border-left:.25rem solid var(--look);background:var(--card);padding:.5rem .75rem;margin-bottom:.5rem;overflow-wrap:anywhere}
.health li{display:flex;flex-wrap:wrap;gap:0 1rem;padding:.25rem 0;border-bottom:1px solid var(--line)}.health b{flex:0 0 9.5rem;font-weight:400}
.health span{flex:0 0 5rem;font-variant-numeric:tabular-nums}.health small{flex:0 0 13rem;color:var(--dim)}.health i{flex:1 1 8rem;font-style:normal;color:var(--dim)}.health .look{color:var(--look)}
.views{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:.75rem}
.views div{display:grid;grid-template-columns:1fr 1fr;gap:.35rem;margin-top:.35rem}.views img{display:block;width:100%;height:auto}
.key span{white-space:nowrap}.key i{display:inline-block;width:.8rem;height:.8rem;margin:0 .35rem 0 .25rem;vertical-align:middle}
pre{padding:.75rem;overflow:auto;font:.85rem/1.45 ui-monospace,monospace}
";

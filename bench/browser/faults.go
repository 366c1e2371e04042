package browser

import (
	"strconv"
	"strings"
	"testing"
)

// TooWide names what is beyond the right edge of the screen, if the page is wider than it.
// What is in an element of class scroll may be.
func (tab *Tab) TooWide(t *testing.T) []string {
	t.Helper()
	return Eval[[]string](t, tab, tooWide)
}

// Faint names the texts whose contrast with what is behind them is below 4.5, those of
// pictures too (WCAG 2 §1.4.3).
func (tab *Tab) Faint(t *testing.T) []string {
	t.Helper()
	return Eval[[]string](t, tab, faintText)
}

// FaintMarks names the shapes that a CSS selector has and whose contrast with what is
// behind them is below 3 (WCAG 2 §1.4.11).
func (tab *Tab) FaintMarks(t *testing.T, selector string) []string {
	t.Helper()
	return Eval[[]string](t, tab, strings.ReplaceAll(faintMarks, "SELECTOR", strconv.Quote(selector)))
}

// Outline names what a screen reader would miss or take wrongly.
func (tab *Tab) Outline(t *testing.T) []string {
	t.Helper()
	return Eval[[]string](t, tab, outline)
}

const (
	tooWide = `document.documentElement.scrollWidth <= innerWidth ? [] :
	[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(0, 5)
		.map(e => e.tagName + "." + e.className + " to " + Math.round(e.getBoundingClientRect().right) + " px of " + innerWidth)
		.concat("the page is " + document.documentElement.scrollWidth + " px wide")`

	colours = `
	const parse = c => { if (/^color\(srgb/.test(c)) return { rgb: c.match(/[\d.]+/g).slice(0, 3).map(v => v * 255), a: 1 }; const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
	const light = rgb => rgb.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
	const known = new Map();
	const behind = el => {
		if (!el) return canvas;
		if (known.has(el)) return known.get(el);
		const { rgb, a } = parse(getComputedStyle(el).backgroundColor);
		const seen = a === 1 ? rgb : behind(el.parentElement).map((v, i) => rgb[i] * a + v * (1 - a));
		known.set(el, seen);
		return seen;
	};
	const contrast = (c, el) => { const [a, b] = [light(parse(c).rgb), light(behind(el))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };`

	faintText = `(() => {` + colours + `
	const list = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const el = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || el.closest("title, desc, script, style, [hidden]")) continue;
		const ratio = contrast(el.closest("svg") ? getComputedStyle(el).fill : getComputedStyle(el).color, el);
		if (ratio < 4.5) list.push(ratio.toFixed(2) + " " + walk.currentNode.data.trim().slice(0, 40));
	}
	return list.slice(0, 10);
})()`

	faintMarks = `(() => {` + colours + `
	const list = [];
	for (const el of document.querySelectorAll(SELECTOR)) {
		const s = getComputedStyle(el), c = s.fill === "none" ? s.stroke : s.fill, ratio = contrast(c, el);
		if (ratio < 3) list.push(ratio.toFixed(2) + " " + c + " " + (el.closest("li") ?? el).textContent);
	}
	return list.slice(0, 10);
})()`

	outline = `[
	...[...document.querySelectorAll("table")].filter(t => !t.caption?.textContent.trim()).map(t => "table without caption: " + t.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("svg[role=img]")].filter(s => !s.querySelector("title")?.textContent || (s.querySelector("desc")?.textContent ?? "").length < 20).map(s => "picture without title or description: " + s.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("svg:not([role=img])")].filter(s => s.getAttribute("aria-hidden") !== "true").map(s => "picture without role: " + s.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("section, .scroll")].filter(s => !s.getAttribute("aria-label") && !document.getElementById(s.getAttribute("aria-labelledby"))).map(s => "section without name: " + s.outerHTML.slice(0, 100)),
	...(document.querySelectorAll("h1").length === 1 ? [] : ["not one h1"]),
	...(document.documentElement.lang === "en" ? [] : ["no language"]),
	...[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i).map(id => "two elements have the id " + id),
	...[...document.querySelectorAll("th:not([scope])")].map(e => "th without scope: " + e.textContent),
	...[...document.querySelectorAll("a[href^='#']")].filter(a => !document.querySelector(a.getAttribute("href"))).map(a => "no target: " + a.href),
]`
)

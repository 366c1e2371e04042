"use strict";
// Renews the page from status.json?html. Without this script the page reloads itself.
(() => {
	const byID = id => document.getElementById(id);
	const live = byID("live"), tip = byID("tip"), cursor = byID("cursor");
	// Charts that move each second are motion, too.
	const calm = matchMedia("(prefers-reduced-motion: reduce)");
	const shown = {};
	let charts = {}, interval = 1, end = 0, hovered = null;

	const say = (text, lost) => {
		if (live.textContent !== text) live.textContent = text;
		live.classList.toggle("lost", lost);
	};

	// Someone who marks text is not interrupted.
	const marked = el => {
		const s = getSelection();
		return s.rangeCount > 0 && !s.isCollapsed && s.containsNode(el, true);
	};

	async function renew() {
		const answer = await fetch("status.json?html", { cache: "no-store", signal: AbortSignal.timeout(5000) });
		if (!answer.ok) throw new Error("status " + answer.status);
		const status = await answer.json();
		for (const [id, html] of Object.entries(status.sections)) {
			const el = byID(id);
			if (!el || shown[id] === html || marked(el)) continue;
			el.innerHTML = html; // escaped by the template that made it
			shown[id] = html;
		}
		charts = status.charts;
		interval = status.interval_seconds;
		end = Date.parse(status.time);
		document.title = (status.ready ? "Ready" : "▲ Not ready") + " – Tailfin on " + status.host;
		document.documentElement.dataset.renewed = status.time;
		if (hovered) point();
	}

	async function loop() {
		if (!document.hidden) {
			try {
				await renew();
				say(calm.matches ? "renewed every 5 s" : "live", false);
			} catch {
				say(end ? "no answer since " + clock(end) + " UTC" : "no answer", true);
			}
		}
		setTimeout(loop, calm.matches ? 5000 : 1000);
	}

	// The formats are those of the server.
	const none = "–", space = "\u00a0";
	const digits = v => {
		const a = Math.abs(v);
		if (a >= 99.95 || Number.isInteger(a)) return Math.round(v).toLocaleString("en-US");
		if (a >= 9.995) return v.toFixed(1);
		return a >= 0.01 ? v.toFixed(2) : "<0.01";
	};
	const si = (v, unit) => {
		const prefixes = ["", "k", "M", "G", "T", "P"];
		let i = 0;
		for (; Math.abs(v) >= 999.5 && i < prefixes.length - 1; i++) v /= 1000;
		return digits(v) + (prefixes[i] + unit && space + prefixes[i] + unit);
	};
	const formats = {
		rate: v => digits(v) + space + "/s",
		bits: v => si(v, "bit/s"),
		bytes: v => si(v, "B/s"),
		number: v => si(v, ""),
		percent: v => digits(v) + space + "%",
		seconds: v => v >= 0.9995 ? digits(v) + space + "s" : v >= 0.0009995 ? digits(v * 1e3) + space + "ms" : digits(v * 1e6) + space + "µs",
	};
	globalThis.tailfinFormats = formats; // for tests
	const clock = ms => new Date(ms).toISOString().slice(11, 19);

	// point shows the values at the pointer.
	function point() {
		const plot = document.elementFromPoint(hovered.x, hovered.y)?.closest(".plot");
		const chart = plot && charts[plot.closest("figure").dataset.chart];
		tip.hidden = cursor.hidden = !chart;
		if (!chart) return;
		const box = plot.getBoundingClientRect(), intervals = 300;
		const ago = Math.round((1 - (hovered.x - box.left) / box.width) * intervals);
		const lines = chart.lines.map(l => {
			const v = l.values?.at(-1 - ago);
			return (v === null || v === undefined ? none : formats[chart.unit](v)) + "  " + l.name;
		});
		tip.textContent = clock(end - ago * interval * 1000) + "\n" + lines.join("\n");
		cursor.style.left = hovered.x + scrollX + "px";
		cursor.style.top = box.top + scrollY + "px";
		cursor.style.height = box.height + "px";
		const left = hovered.x + 12 + tip.offsetWidth > document.documentElement.clientWidth ? hovered.x - 12 - tip.offsetWidth : hovered.x + 12;
		tip.style.left = Math.max(0, left) + scrollX + "px";
		tip.style.top = box.top + scrollY + 8 + "px";
	}
	document.addEventListener("pointermove", e => {
		hovered = e.target.closest?.(".plot") ? { x: e.clientX, y: e.clientY } : null;
		if (hovered) point();
		else tip.hidden = cursor.hidden = true;
	});
	document.addEventListener("visibilitychange", () => { if (!document.hidden) renew().catch(() => {}); });
	loop();
})();

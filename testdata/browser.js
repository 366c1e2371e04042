// Fetches bodies of several sizes at once and posts one, checks every byte,
// and says so in the page.
const byteAt = i => (i * 7 + (i >> 8)) & 255;

async function check(method, path, size) {
  const options = { method, cache: "no-store" };
  if (method === "POST") {
    options.body = Uint8Array.from({ length: size }, (_, i) => byteAt(i));
  }
  const response = await fetch(path, options);
  const body = new Uint8Array(await response.arrayBuffer());
  const whole = response.ok && body.length === size && body.every((b, i) => b === byteAt(i));
  const url = new URL(path, location).href;
  const protocol = performance.getEntriesByName(url).at(-1)?.nextHopProtocol ?? "?";
  const row = document.getElementById("rows").insertRow();
  for (const text of [method, path, response.status, body.length, protocol]) {
    row.insertCell().textContent = text;
  }
  return whole && protocol === "h3";
}

async function run() {
  const checks = Array.from({ length: 20 }, (_, i) => check("GET", "/bytes/" + i * 1000, i * 1000));
  checks.push(check("POST", "/echo", 100000));
  const whole = (await Promise.all(checks)).filter(Boolean).length;
  document.getElementById("result").textContent =
    whole === checks.length ? `all ${whole} whole, by h3` : `${whole} of ${checks.length} whole, by h3`;
}

run().catch(err => { document.getElementById("result").textContent = "failed: " + err; });

// Objects made and dropped, and a cache with a limit: node garbage.js ENTRIES PERIOD_MS
const [entries, period] = process.argv.slice(2).map(Number);
const cache = new Map();
let number = 0;
setInterval(() => {
  for (let i = 0; i < 40; i++) {
    cache.set(number++, { at: Date.now(), list: Array.from({ length: 20 }, (_, j) => "item " + j) });
    if (cache.size > entries) cache.delete(cache.keys().next().value);
  }
}, period);

// Buffers kept for good, outside of V8's heap: node buffers.js BYTES PERIOD_MS
const [size, period] = process.argv.slice(2).map(Number);
const kept = [];
const start = performance.now();
setInterval(() => {
  while (kept.length < (performance.now() - start) / period) kept.push(Buffer.alloc(size, 1));
}, period);

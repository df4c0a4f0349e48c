// An HTTP server that asks itself: node server.js PERIOD_MS
const http = require("http");
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const server = http.createServer((request, response) => {
  const body = JSON.stringify(Array.from({ length: 100 }, (_, i) => ({ i, url: request.url })));
  response.end(body);
});
server.listen(0, "127.0.0.1", () => {
  let number = 0;
  setInterval(() => {
    http.get({ host: "127.0.0.1", port: server.address().port, path: "/" + number++, agent }, (answer) => answer.resume());
  }, Number(process.argv[2]));
});

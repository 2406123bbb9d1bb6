// graphql-ws: subscribes, is cut, resumes after its last cursor. `node over_ws.mjs URL KEY AFTER COUNT CUT_AT`
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { DOCUMENT, arguments_, report } from './asked.mjs';

const { url, key, after, count, cutAt } = arguments_();
const seen = [];

function follow(from) {
  const client = createClient({
    url: url.replace('http', 'ws'),
    webSocketImpl: WebSocket,
    connectionParams: { apiKey: key },
    retryAttempts: 0,
  });
  return new Promise((resolve, reject) => {
    const stop = client.subscribe({ query: DOCUMENT, variables: { after: from } }, {
      next: ({ data, errors }) => {
        if (errors) return reject(errors);
        seen.push(data.delegationEvents);
        if (seen.length === cutAt) client.terminate(); // as a network does: without a word
        if (seen.length === count) { stop(); resolve(client.dispose()); }
      },
      error: reject,
      complete: resolve,
    });
  });
}

await follow(after).catch((error) => { if (error.reason !== 'Terminated') throw error; });
if (seen.length < count) await follow(seen.at(-1).cursor);
report(seen);

// Hive Gateway as a federation router: it composes a supergraph of the gateway's schema and subscribes by HTTP callbacks;
// graphql-sse follows the events at Hive. Says `beating` once so many checks have come, and the events once Hive has
// answered 404 to what its client has left.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createGatewayRuntime } from '@graphql-hive/gateway-runtime';
import { MemPubSub } from '@graphql-hive/pubsub';
import { composeServices } from '@theguild/federation-composition';
import { parse } from 'graphql';
import { createClient } from 'graphql-sse';
import { DOCUMENT, arguments_, report } from './asked.mjs';

const { url, key, after, count, cutAt: beats } = arguments_();
const path = '/callback';
let gateway;
let posted = 0;
let refused;
const givenUp = new Promise((resolve) => (refused = resolve));

const server = createServer((request, response) => {
  if (request.url.startsWith(path)) {
    if (++posted === beats) process.stdout.write('beating\n');
    response.on('finish', () => posted > beats && response.statusCode === 404 && refused());
  }
  gateway(request, response);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const own = `http://127.0.0.1:${server.address().port}`;

const typeDefs = parse(readFileSync(process.argv[7], 'utf8'));
const { supergraphSdl, errors } = composeServices([{ name: 'crossgrant', url, typeDefs }]);
if (errors?.length) throw new AggregateError(errors);
gateway = createGatewayRuntime({
  supergraph: supergraphSdl,
  pubsub: new MemPubSub(),
  webhooks: true,
  logging: 'error',
  transportEntries: {
    crossgrant: {
      headers: [['X-API-Key', key]],
      options: {
        subscriptions: {
          kind: 'http-callback',
          options: { public_url: own + path, path, heartbeat_interval: 1000 },
        },
      },
    },
  },
});

const seen = [];
const client = createClient({ url: `${own}/graphql`, retryAttempts: 0 });
for await (const { data, errors } of client.iterate({ query: DOCUMENT, variables: { after } })) {
  if (errors) throw new AggregateError(errors, JSON.stringify(errors));
  seen.push(data.delegationEvents);
  if (seen.length === count) break;
}
client.dispose();
await givenUp;
report(seen);

// graphql-sse, distinct connections: subscribes, is cut, resumes after its last cursor.
import { createClient } from 'graphql-sse';
import { DOCUMENT, arguments_, report } from './asked.mjs';

const { url, key, after, count, cutAt } = arguments_();
const seen = [];

async function follow(from, until) {
  const client = createClient({ url, headers: { 'X-API-Key': key }, retryAttempts: 0 });
  for await (const { data, errors } of client.iterate({ query: DOCUMENT, variables: { after: from } })) {
    if (errors) throw errors;
    seen.push(data.delegationEvents);
    if (seen.length === until) break;
  }
  client.dispose();
}

await follow(after, cutAt);
await follow(seen.at(-1).cursor, count);
report(seen);

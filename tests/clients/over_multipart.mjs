// Apollo Client, multipart subscriptions: subscribes, is cut, resumes after its last cursor.
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { DOCUMENT, arguments_, report } from './asked.mjs';

const { url, key, after, count, cutAt } = arguments_();
const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: new HttpLink({ uri: url, headers: { 'X-API-Key': key } }),
});
const seen = [];

function follow(from, until) {
  return new Promise((resolve, reject) => {
    const asked = client.subscribe({ query: gql(DOCUMENT), variables: { after: from }, fetchPolicy: 'no-cache' });
    const subscription = asked.subscribe({
      next: ({ data, error }) => {
        if (error) return reject(error);
        seen.push({ cursor: data.delegationEvents.cursor, node: { seq: data.delegationEvents.node.seq } });
        if (seen.length === until) { subscription.unsubscribe(); resolve(); }
      },
      error: reject,
      complete: () => reject(new Error('the stream has ended')),
    });
  });
}

await follow(after, cutAt);
await follow(seen.at(-1).cursor, count);
report(seen);
client.stop();

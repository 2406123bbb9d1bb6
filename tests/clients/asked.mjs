// What every client here asks, and how it says what it got.
export const DOCUMENT =
  'subscription ($after: String) { delegationEvents(after: $after) { cursor node { seq } } }';

export function arguments_() {
  const [url, key, after, count, cutAt] = process.argv.slice(2);
  return { url, key, after, count: Number(count), cutAt: Number(cutAt) };
}

export function report(seen) {
  process.stdout.write(JSON.stringify(seen.map((edge) => edge.node.seq)) + '\n', () => process.exit(0));
}

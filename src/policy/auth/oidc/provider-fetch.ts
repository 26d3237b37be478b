/** More than any answer of a provider has: metadata, 100 keys, tokens with the groups of a user. */
const MOST_BYTES = 1024 * 1024;

export type ProviderFetch = (url: string, options: object) => Promise<Response>;

/**
 * `fetch` for a provider: its answer must be whole within the time, at most 1 MiB, and no redirect to elsewhere.
 *
 * @param timeoutMs From the first byte that is sent to the last that comes.
 */
export function providerFetch(timeoutMs: number): ProviderFetch {
  return async (url, options) => {
    const { signal, ...rest } = options as RequestInit;
    const signals = [AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])];
    const response = await fetch(url, { ...rest, redirect: 'manual', signal: AbortSignal.any(signals) });
    const { status, statusText, headers } = response;
    const body = await wholeBody(response);
    return new Response(status === 204 || status === 304 ? null : body, { status, statusText, headers });
  };
}

async function wholeBody({ body }: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MOST_BYTES) throw new TypeError('the answer of the provider has more than 1 MiB');
  }
  return Buffer.concat(chunks);
}

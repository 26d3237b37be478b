/**
 * Which of some languages an `Accept-Language` header likes best: by quality, the first of equals. `ja-JP` is met by `ja`,
 * `*` by the first.
 *
 * @param available Primary tags, lower-case; the first is the default.
 * @see RFC 9110 §12.5.4, RFC 4647 §3.4
 */
export function preferredLanguage<L extends string>(header: string | undefined, available: readonly [L, ...L[]]): L {
  let best: L = available[0];
  let bestQuality = 0;
  for (const range of (header ?? '').slice(0, MAX_HEADER).split(',')) {
    const [tag = '', ...parameters] = range.split(';').map(part => part.trim().toLowerCase());
    const weight = parameters.find(parameter => parameter.startsWith('q='));
    const quality = weight === undefined ? 1 : Number(weight.slice(2));
    if (!(quality > bestQuality)) continue;
    const met = tag === '*' ? available[0] : available.find(one => tag === one || tag.startsWith(`${one}-`));
    if (met === undefined) continue;
    best = met;
    bestQuality = quality;
  }
  return best;
}

const MAX_HEADER = 1_024;

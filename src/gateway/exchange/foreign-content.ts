/** Elements of SVG and MathML that hold HTML (HTML standard §13.2.6). */
const HOLD_HTML: Readonly<Record<string, ReadonlySet<string>>> = {
  svg: new Set(['foreignobject', 'desc', 'title']),
  math: new Set(['mi', 'mo', 'mn', 'ms', 'mtext']),
};

/** Elements of HTML that are never in SVG or MathML: they end it (§13.2.6.5). */
const ALWAYS_HTML: ReadonlySet<string> = new Set(
  'b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var'.split(
    ' ',
  ),
);

const MAX_DEPTH = 512;

/** Whether the elements of a page are of SVG or MathML, in which texts and comments begin and end in another way. */
export class ForeignContent {
  /** `svg`, `math`, and what holds HTML in them. */
  readonly #open: string[] = [];

  get isHere(): boolean {
    return HOLD_HTML[this.#open.at(-1) ?? ''] !== undefined;
  }

  /** A start tag, in lower case. */
  open(tag: string, isSelfClosing: boolean): void {
    const holders = HOLD_HTML[this.#open.at(-1) ?? ''];
    if (holders && ALWAYS_HTML.has(tag)) this.#leave();
    else if (!isSelfClosing && (tag === 'svg' || tag === 'math' || holders?.has(tag)) && this.#open.length < MAX_DEPTH)
      this.#open.push(tag);
  }

  /** An end tag, in lower case. */
  close(tag: string): void {
    if (this.isHere && (tag === 'p' || tag === 'br')) return this.#leave();
    const at = this.#open.lastIndexOf(tag);
    if (at !== -1) this.#open.length = at;
  }

  #leave(): void {
    while (this.isHere) this.#open.pop();
  }
}

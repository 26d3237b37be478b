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

/**
 * Where in a page an element is, as far as that decides what it is: in SVG or MathML, in which texts and comments begin and
 * end in another way, or in a template, which is no part of the document.
 */
export class PagePlace {
  /** `svg`, `math`, what holds HTML in them, and `template`. */
  readonly #open: string[] = [];

  /** In SVG or MathML. */
  get isForeign(): boolean {
    return HOLD_HTML[this.#open.at(-1) ?? ''] !== undefined;
  }

  get isTemplate(): boolean {
    return this.#open.includes('template');
  }

  /** A start tag, in lower case. */
  open(tag: string, isSelfClosing: boolean): void {
    const holders = HOLD_HTML[this.#open.at(-1) ?? ''];
    if (holders && ALWAYS_HTML.has(tag)) return this.#leave();
    // A slash ends no element of HTML.
    const isTemplate = !holders && tag === 'template';
    const isOther = tag === 'svg' || tag === 'math' || holders?.has(tag);
    const isOpen = isTemplate || (isOther && !isSelfClosing);
    if (isOpen && this.#open.length < MAX_DEPTH) this.#open.push(tag);
  }

  /** An end tag, in lower case. */
  close(tag: string): void {
    if (this.isForeign && (tag === 'p' || tag === 'br')) return this.#leave();
    // What is not begun in a template cannot end there.
    const from = tag === 'template' ? 0 : this.#open.lastIndexOf('template') + 1;
    const at = this.#open.lastIndexOf(tag);
    if (at >= from) this.#open.length = at;
  }

  #leave(): void {
    while (this.isForeign) this.#open.pop();
  }
}

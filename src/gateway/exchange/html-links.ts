import { QuoteType, Tokenizer, type TokenizerCallbacks } from 'htmlparser2';
import type { PageLinks } from '../../http/page-links.ts';
import { PagePlace } from './page-place.ts';
import { PageWindow } from './page-window.ts';
import { ScriptText } from './script-text.ts';

/** Why something of a page was left as it is. */
export type LeftBecause =
  /** A link is longer than what is kept of one. */
  | 'too-long'
  /** A base that leads elsewhere comes where it would take along links with tickets: it is made empty. */
  | 'late-base'
  /** Where a script ends is not certain: the rest of the page passes as it is. */
  | 'script'
  /** The text may be in an encoding in which bytes of HTML mean something else: so does the rest then. */
  | 'charset';

export interface HtmlLinksOptions {
  readonly links: PageLinks;
  /** The answer says that its encoding is one in which the bytes of ASCII are those of HTML. */
  readonly isCharsetKnown: boolean;
  readonly onLeft: (why: LeftBecause) => void;
}

/** What a person follows, of which the ticket must not get lost. What a page only loads shows it to others. */
const LINKS: Readonly<Record<string, string>> = {
  a: 'href',
  area: 'href',
  base: 'href',
  form: 'action',
  button: 'formaction',
  input: 'formaction',
  frame: 'src',
  iframe: 'src',
};

/**
 * Behind them it is not certain which base is the first: what is misplaced in a table comes before it, and of a base in
 * the others some browsers know nothing.
 */
const DOUBTFUL: ReadonlySet<string> = new Set(['table', 'select', 'frameset', 'noscript']);

/** Their empty value means the page, and not its base (HTML standard §4.10.21.3). */
const OF_FORMS: ReadonlySet<string> = new Set(['action', 'formaction']);

const MAX_HELD = 65_536;
/** A name may begin in the chunk before. None that is looked for is longer. */
const KEPT = 32;

/** One value: its text, and where in the bytes of the page what of it stands. */
interface Value {
  readonly name: string;
  /** Behind the name of the attribute. */
  readonly from: number;
  text: string;
  /** Of each piece without entities: where it begins in `text`, and in the page. */
  readonly pieces: [inText: number, inPage: number][];
  /** Two entities without a piece between them: where one ends and the other begins is not known. */
  isDense: boolean;
  isEntityLast: boolean;
  start: number;
  end: number;
  quote: QuoteType;
}

/**
 * Puts the ticket into the links and forms of a page while it passes: `a`, `area`, `form`, `button`, `input`, `frame`, `iframe`, and
 * `meta` with a refresh, as far as they lead to the page's own origin, seen from its first `base`. Every other byte
 * passes as it is, and at once: of a page no more is held than one link.
 *
 * Text is one character for each byte (`latin1`): in encodings that contain ASCII, the bytes of HTML are the same.
 */
export class HtmlLinks {
  readonly #options: HtmlLinksOptions;
  readonly #tokenizer: Tokenizer;
  readonly #place = new PagePlace();
  readonly #page = new PageWindow();
  /** The client has the page as far as here. */
  #emitted = 0;
  #out = '';
  /** From here on nothing is passed on before it is known what it becomes. */
  #held: number | undefined;
  #tag = '';
  #value: Value | undefined;
  /** Of the tag: the first of each attribute counts. */
  #values = new Map<string, Value>();
  #base: URL | undefined;
  #hasBase = false;
  /** A base further down may count, and not the first. */
  #isBaseDoubtful = false;
  #hasGiven = false;
  readonly #script = new ScriptText();
  #scriptFrom: number | undefined;
  #mark = '';
  #lastTwo = '';
  #isOver = false;

  constructor(options: HtmlLinksOptions) {
    this.#options = options;
    const nothing = () => {};
    const callbacks: TokenizerCallbacks = {
      onopentagname: (start, end) => this.#onTag(start, end),
      onattribname: (start, end) => this.#onAttribute(start, end),
      onattribdata: (start, end) => this.#onPiece(start, end),
      onattribentity: codePoint => this.#onEntity(codePoint),
      onattribend: (quote, end) => this.#onValue(quote, end),
      onopentagend: end => this.#onTagEnd(end, false),
      onselfclosingtag: end => this.#onTagEnd(end, true),
      onclosetag: (start, end) => this.#onEndTag(start, end),
      isInForeignContext: () => this.#place.isForeign,
      ...{ oncdata: nothing, oncomment: nothing, ondeclaration: nothing, onend: nothing },
      ...{ onprocessinginstruction: nothing, ontext: nothing, ontextentity: nothing },
    };
    this.#tokenizer = new Tokenizer({}, callbacks);
  }

  /** More of the page. @returns what of it can go on to the client. */
  write(chunk: string): string {
    if (this.#isOver) return chunk;
    const page = this.#page;
    const begun = page.length;
    page.add(chunk);
    const known = this.#untilCharset(chunk, begun);
    this.#feed(known === chunk.length ? chunk : chunk.slice(0, known));
    if (known < chunk.length) this.#stop('charset');
    if (!this.#isOver) this.#readScript(page.length);
    if (this.#held !== undefined && page.length - this.#held > MAX_HELD) this.#giveUp();
    this.#emitTo(this.#held ?? page.length);
    page.forget(this.#isOver ? page.length : Math.min(this.#emitted, page.length - KEPT));
    return this.#take();
  }

  /** The page is over. @returns what was held of it. */
  end(): string {
    this.#isOver = true;
    this.#emitTo(this.#page.length);
    return this.#take();
  }

  /**
   * `<![` begins a comment in HTML, which ends with the first `>`, and what does not end so only in foreign content. The
   * tokenizer takes it for the latter; it is shown another character.
   */
  #feed(chunk: string): void {
    const text = this.#lastTwo + chunk;
    const shift = this.#lastTwo.length;
    this.#lastTwo = text.slice(-2);
    let from = 0;
    for (let at = text.indexOf('<!['); at !== -1 && !this.#isOver; at = text.indexOf('<![', at + 3)) {
      const bracket = at + 2 - shift;
      if (bracket < from) continue;
      this.#tokenizer.write(chunk.slice(from, bracket));
      this.#tokenizer.write(this.#place.isForeign ? '[' : 'x');
      from = bracket + 1;
    }
    if (!this.#isOver) this.#tokenizer.write(from === 0 ? chunk : chunk.slice(from));
  }

  /** How much of a chunk is in an encoding that contains ASCII, as far as can be seen. */
  #untilCharset(chunk: string, begun: number): number {
    if (begun < 2) this.#mark += chunk.slice(0, 2 - begun);
    // The marks of UTF-16, which count for more than what the answer says.
    if (this.#mark === '\xfe\xff' || this.#mark === '\xff\xfe') return 0;
    // A page in ISO-2022-JP has escapes, and no other page has.
    const at = this.#options.isCharsetKnown ? -1 : chunk.indexOf('\x1b');
    return at === -1 ? chunk.length : at;
  }

  #onTag(start: number, end: number): void {
    this.#tag = this.#name(start, end);
    this.#values.clear();
    if (this.#tag === 'meta') this.#hold(end);
  }

  #onAttribute(start: number, end: number): void {
    const name = this.#name(start, end);
    const isRead = this.#tag === 'meta' ? name === 'content' || name === 'http-equiv' : LINKS[this.#tag] === name;
    this.#value = undefined;
    if (!isRead || this.#values.has(name) || this.#isOver) return;
    const value: Value = {
      ...{ name, from: end, text: '', pieces: [], isDense: false, isEntityLast: false },
      ...{ start: end, end, quote: QuoteType.NoValue },
    };
    this.#value = value;
    this.#values.set(name, value);
    this.#hold(end);
  }

  #onPiece(start: number, end: number): void {
    const value = this.#value;
    if (!value) return;
    value.pieces.push([value.text.length, start]);
    value.text += this.#page.slice(start, end);
    value.isEntityLast = false;
  }

  #onEntity(codePoint: number): void {
    const value = this.#value;
    if (!value) return;
    value.isDense ||= value.isEntityLast;
    value.isEntityLast = true;
    // Here one character is one byte. What this one becomes in a URL makes no difference to where that leads.
    value.text += codePoint < 0x80 ? String.fromCharCode(codePoint) : STRANGER;
  }

  #onValue(quote: QuoteType, end: number): void {
    const value = this.#value;
    this.#value = undefined;
    if (!value) return;
    const isQuoted = quote === QuoteType.Double || quote === QuoteType.Single;
    value.quote = quote;
    value.end = isQuoted ? end - 1 : end;
    if (quote !== QuoteType.NoValue)
      value.start =
        value.from + /^[\t\n\f\r ]*=[\t\n\f\r ]*["']?/.exec(this.#page.slice(value.from, value.end))![0].length;
    if (this.#tag === 'meta') return;
    this.#held = undefined;
    const isTooLong = value.end - value.from > MAX_HELD;
    if (isTooLong) this.#options.onLeft('too-long');
    if (this.#tag === 'base') this.#onBase(isTooLong ? undefined : value);
    else if (!isTooLong) this.#replace(value, this.#encoded(value));
  }

  #encoded({ name, text }: Value): string {
    // A frame without a place is empty, and never shows its own page.
    if (name === 'src' && text.trim() === '') return text;
    return this.#options.links.add(text, this.#base, OF_FORMS.has(name));
  }

  /** @param value Undefined when it is too long to be one. */
  #onBase(value: Value | undefined): void {
    const { isForeign, isTemplate } = this.#place;
    // There it is no base. But SVG may be over, by what only a parser of all HTML would know.
    const isFirst = !this.#hasBase && !isForeign && !isTemplate;
    if (!isFirst && !isForeign && !this.#isBaseDoubtful) return;
    this.#hasBase ||= isFirst;
    const { links, onLeft } = this.#options;
    const url = (value && links.resolve(value.text)) ?? (isPlain(value) ? undefined : ELSEWHERE);
    // Browsers take no other for a base (HTML standard §4.2.3).
    if (!url || /^(?:data|javascript):$/.test(url.protocol)) return;
    const isOwn = links.isOwnOrigin(url);
    if (value && !isOwn && (this.#hasGiven || !isFirst)) {
      // Links that have a ticket already, or will get one, would take it there. HTML does not allow such a base.
      onLeft('late-base');
      this.#emitTo(value.start);
      this.#emitted = value.end;
    } else if (isFirst || !isOwn) this.#base = url;
  }

  #onTagEnd(end: number, isSelfClosing: boolean): void {
    const tag = this.#tag;
    if (!this.#isOver) {
      if (tag === 'meta') this.#onMeta();
      if (tag === 'form' && !this.#values.has('action')) this.#addAction(end);
    }
    this.#tag = '';
    this.#isBaseDoubtful ||= DOUBTFUL.has(tag);
    if (tag === 'script' && !this.#place.isForeign) this.#scriptFrom = end + 1;
    this.#place.open(tag, isSelfClosing);
  }

  #onMeta(): void {
    const content = this.#values.get('content');
    const kind = this.#values.get('http-equiv');
    const held = this.#held;
    this.#held = undefined;
    // Of what was too long, the client has the beginning already.
    if (!content || held === undefined || content.from < this.#emitted || kind?.text.toLowerCase() !== 'refresh')
      return;
    if (content.end - content.from > MAX_HELD) return this.#options.onLeft('too-long');
    this.#replace(content, this.#options.links.refresh(content.text, this.#base));
  }

  /** A form without a place leads to its page. */
  #addAction(end: number): void {
    const action = this.#options.links.add('', this.#base, true);
    if (action === '') return;
    this.#emitTo(end);
    this.#out += ` action="${escaped(action, QuoteType.Double)}"`;
    this.#hasGiven = true;
  }

  #onEndTag(start: number, end: number): void {
    const name = this.#name(start, end);
    if (this.#scriptFrom !== undefined && name === 'script') {
      this.#readScript(start);
      this.#scriptFrom = undefined;
      // This end tag is one of the text.
      if (this.#script.isDoublyEscaped) this.#stop('script');
      this.#script.reset();
    }
    this.#place.close(name);
  }

  #readScript(until: number): void {
    if (this.#scriptFrom === undefined) return;
    this.#script.read(this.#page.slice(this.#scriptFrom, until));
    this.#scriptFrom = until;
  }

  /** Puts another text in the place of a value, and leaves the bytes of what both have in common. */
  #replace(value: Value, text: string): void {
    const { text: old, end, quote } = value;
    if (text === old) return;
    if (quote === QuoteType.NoValue) {
      this.#emitTo(value.from);
      this.#out += `="${escaped(text, QuoteType.Double)}"`;
    } else if (value.isDense) {
      if (text.includes(STRANGER)) return;
      this.#emitTo(value.start);
      this.#out += escaped(text, quote);
      this.#emitted = end;
    } else {
      const shorter = Math.min(old.length, text.length);
      let before = 0;
      while (before < shorter && old[before] === text[before]) before++;
      let behind = 0;
      while (behind < shorter - before && old.at(-1 - behind) === text.at(-1 - behind)) behind++;
      const from = placeOf(value, before);
      const put = escaped(text.slice(before, text.length - behind), quote);
      this.#emitTo(from);
      // A semicolon would become part of what looks like an entity before it.
      const isEntity =
        put.startsWith(';') && /&#?[\da-z]*$/i.test(this.#page.slice(Math.max(value.start, from - 40), from));
      this.#out += isEntity ? `&#59;${put.slice(1)}` : put;
      this.#emitted = placeOf(value, old.length - behind);
    }
    this.#hasGiven = true;
  }

  #hold(from: number): void {
    if (!this.#isOver) this.#held ??= from;
  }

  /** What is held is too long to be a link. */
  #giveUp(): void {
    if (this.#tag === 'base' && this.#value) this.#onBase(undefined);
    this.#held = undefined;
    this.#value = undefined;
    this.#options.onLeft('too-long');
  }

  #stop(why: LeftBecause): void {
    this.#isOver = true;
    this.#held = undefined;
    this.#value = undefined;
    this.#options.onLeft(why);
  }

  /** In lower case; empty for one that is longer than any that is looked for. */
  #name(start: number, end: number): string {
    return start < this.#page.begin || end - start > KEPT ? '' : this.#page.slice(start, end).toLowerCase();
  }

  #emitTo(end: number): void {
    if (end <= this.#emitted) return;
    this.#out += this.#page.slice(this.#emitted, end);
    this.#emitted = end;
  }

  #take(): string {
    const out = this.#out;
    this.#out = '';
    return out;
  }
}

/** In the place of a character that is none of ASCII. */
const STRANGER = '\ufffd';
/** In the place of a base that cannot be read here. */
const ELSEWHERE = URL.parse('about:blank')!;

/** What it means is the same in each encoding. */
function isPlain(value: Value | undefined): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII.
  return value !== undefined && /^[\x00-\x7f]*$/.test(value.text);
}

/** Where in the page a place in the text of a value is. */
function placeOf({ start, end, text, pieces }: Value, inText: number): number {
  if (inText === text.length) return end;
  const [at, place] = pieces.findLast(([begin]) => begin <= inText) ?? [0, start];
  return place + inText - at;
}

function escaped(text: string, quote: QuoteType): string {
  const plain = text.replace(/[&"'<>]/g, character => (character === '&' ? '&amp;' : `&#${character.charCodeAt(0)};`));
  if (quote !== QuoteType.Unquoted) return plain;
  return plain.replace(/[\t\n\f\r `]/g, character => `&#${character.charCodeAt(0)};`);
}

/** A header of a request or a response. */
export interface HeaderLine {
  readonly name: string;
  readonly value: string;
}

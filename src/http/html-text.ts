/** Text that is no markup, in content and in attributes with quotes. */
export function toText(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}

/** How a token reads where it stands alone: spaces and ends of lines can be seen. */
export function visible(text: string): string {
  return text.replace(/ /g, '·').replace(/\n/g, '↵').replace(/\t/g, '⇥') || '∅'
}

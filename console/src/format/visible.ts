/** How a token reads where it stands alone: spaces and ends of lines can be seen. */
export function visible(text: string): string {
  return text.replace(/ /g, '·').replace(/\n/g, '↵').replace(/\t/g, '⇥') || '∅'
}

/** What somebody else wrote, whose marks of writing direction would turn the words around it: they are told by their numbers. */
export function foreign(text: string): string {
  return text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (mark) => `⟨U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`)
}

interface Toast {
  id: number
  kind: 'good' | 'bad'
  text: string
}

/** How long a good one stays; a bad one stays until it is dismissed. */
const STAY_MS = 5000
/** More push out the oldest. */
const MOST = 4

class Toasts {
  all = $state<Toast[]>([])
  #next = 1

  good(text: string): void {
    const id = this.#add('good', text)
    setTimeout(() => this.dismiss(id), STAY_MS)
  }

  bad(text: string): void {
    this.#add('bad', text)
  }

  dismiss(id: number): void {
    this.all = this.all.filter((toast) => toast.id !== id)
  }

  #add(kind: Toast['kind'], text: string): number {
    const id = this.#next++
    this.all = [...this.all, { id, kind, text }].slice(-MOST)
    return id
  }
}

export const toasts = new Toasts()

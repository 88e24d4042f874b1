package audit

// Queued is how many appends wait.
func Queued(w *Writer) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// Busy reports whether somebody commits.
func Busy(w *Writer) bool { return len(w.turn) != 0 }

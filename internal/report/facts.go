package report

import (
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
)

// Facts are what a report is made from, read at one moment.
type Facts struct {
	Now         time.Time
	Environment string
	Production  bool
	Origin      string // of the log
	Key         string // that signs the report
	SPKI        []byte // its public half
	Members     []Member
	Log         Log
	// Service is what the running service says of itself; nil if none answered, and then
	// ServiceErr says why.
	Service    *Service
	ServiceErr string
	Host       Host // of the process that makes the report
	Build      Build
	Listeners  []Listener
	Scans      []Scan
	Records    []Record
}

// A Member is one token.
type Member struct {
	Name string
	// Err is why it could not be opened or read; the rest is then empty.
	Err       string
	Inventory hsm.Inventory
	Login     hsm.Login
	Sessions  int // that the service needs
	// Proofs are the results of signing and verifying with each key that signs, by the key's
	// name: "" for well.
	Proofs map[string]string
	// Retired says, by the retired key's name, what a use of it for something new answered;
	// "" if it was not refused.
	Retired map[string]string
	// Tried are the attempts on disposable keys.
	Tried []Tried
	// Sealed counts the ephemeral objects of one seal that was made for the report.
	Sealed Ephemeral
}

// Tried are the attempts on one disposable key.
type Tried struct {
	Algorithm hsm.Algorithm
	For       []string // names of the keys that were made by the same template
	Attempts  []hsm.Attempt
	Err       string // why there was no such key
	NoSuchKey bool   // the token cannot make one
}

// Ephemeral counts the objects of key agreements.
type Ephemeral struct {
	Created   uint64 `json:"created"`
	Destroyed uint64 `json:"destroyed"`
	Left      int    `json:"left"`          // session objects that are there though nothing is in flight
	Err       string `json:"err,omitempty"` // why nothing could be counted
}

// Log are the audit logs of the database, verified: one for each process that writes.
type Log struct {
	Err    string // why they could not be read
	Report audit.Reports
	// Signed is when the last checkpoint of a log was made, by the log's number.
	Signed map[int]time.Time
	// MaxUnsigned is how old an entry without a checkpoint may be.
	MaxUnsigned time.Duration
	// Anchored are the newest checkpoints that anchors kept of each log.
	Anchored map[Kept]audit.Checkpoint
	// Missing are the configured anchor files that are not there.
	Missing []string
	// Configured is how many anchors there are, OffHost how many of them on other hosts.
	Configured, OffHost int
	Retention           time.Duration // 0 for ever
}

// Kept is where checkpoints of a log, by its origin, were kept.
type Kept struct{ Where, Origin string }

// Service is what a running service says of itself, on its admin listener.
type Service struct {
	Build     Build         `json:"build"`
	Host      Host          `json:"host"`
	Started   time.Time     `json:"started"`
	Config    string        `json:"configSha256"`
	Keyring   string        `json:"keyringSha256"`
	Ephemeral Ephemeral     `json:"ephemeral"`
	Anchors   []AnchorState `json:"anchors"`
}

// AnchorState is one anchor of a running service.
type AnchorState struct {
	Name    string `json:"name"`
	Size    uint64 `json:"size"` // of the last checkpoint that it took
	Failing bool   `json:"failing"`
}

// Host is what keeps a process's memory to itself, and the clock.
type Host struct {
	System string `json:"system"`
	// CoreLimit is RLIMIT_CORE, "0 bytes" where core files are off.
	CoreLimit string `json:"coreLimit"`
	CoreOff   bool   `json:"coreOff"`
	// Dumpable is PR_GET_DUMPABLE: other processes of the user can read the memory.
	Dumpable bool `json:"dumpable"`
	// Locked says whether memory is kept out of swap, and if not, why.
	Locked bool   `json:"memoryLocked"`
	Memory string `json:"memory"`
	Swap   bool   `json:"swap"` // the host has any
	// Erasure names what overwrites the host's copies of single-use keys.
	Erasure      string `json:"memoryErasure"`
	Clock        string `json:"clock"`
	ClockInStep  bool   `json:"clockInStep"` // the kernel says that something disciplines it
	ClockUnknown bool   `json:"clockUnknown,omitempty"`
}

// Build is what the program was made from.
type Build struct {
	Version          string `json:"version"`
	Go               string `json:"go"`
	Revision         string `json:"revision"` // empty: the build does not say
	Modified         bool   `json:"modified"`
	Modules          int    `json:"modules"`
	ModulesSHA256    string `json:"modulesSha256"` // of the list that mintmark version --modules prints
	ExecutableSHA256 string `json:"executableSha256"`
}

// A Listener is an address that the configuration has.
type Listener struct {
	Name     string
	Address  string
	Loopback bool
	TLS      bool
	Policy   string // versions and suites
	Weak     string // what is wrong with its certificate; "" for nothing
}

// A Scan is one place where card numbers were looked for.
type Scan struct {
	Place string
	Log   bool // a log, and not the database
	Err   string
	Bytes int64
	Hits  []string // where in it; never what
}

// A Record is how keys came to be: the transcript of a ceremony.
type Record struct {
	Path    string
	SHA256  string
	Err     string   // why it does not count
	Keys    []string // that it names
	People  []string // who signed
	Reviews string   // the SHA-256 of the file that they reviewed
}

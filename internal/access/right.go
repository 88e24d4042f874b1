package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Right allows one operation. Rights are granted per client in the configuration;
// a claim of that name in a token grants nothing.
type Right string

// The rights, one per operation.
const (
	SignCards                 Right = "signCards"                 // have card payloads sealed for a wallet
	CreateActivationData      Right = "createActivationData"      // have activation data made for a card in a wallet
	ManageCards               Right = "manageCards"               // store and remove cards
	ReadCards                 Right = "readCards"                 // see cards, masked
	SignMerchantTokens        Right = "signMerchantTokens"        // have merchant tokens signed
	CreateAppleProximityToken Right = "createAppleProximityToken" // have a proximity token made for the merchant of one's own token
	ManagePasses              Right = "managePasses"              // make, change and void a tenant's passes, and get them signed
	ManageWalletTokens        Right = "manageWalletTokens"        // tell the state of cards' tokens in wallets: networks and service providers
	SearchTokens              Right = "searchTokens"              // look up wallet tokens of cards
	ActivateTokens            Right = "activateTokens"            // have wallet tokens activated at the network
	SearchCards               Right = "searchCards"               // list one's cards for a wallet: their names, their last four digits
	ReadEnablement            Right = "readEnablement"            // see which cards may be provisioned
	DecideProvisioning        Right = "decideProvisioning"        // have the network's approval check answered
	SendPasscodes             Right = "sendPasscodes"             // have one-time passcodes sent to cardholders
	VerifyPasscodes           Right = "verifyPasscodes"           // have one-time passcodes compared
	ProposeChanges            Right = "proposeChanges"            // put changes of the service up for another's approval
	ApproveChanges            Right = "approveChanges"            // approve what another proposed
	ViewConsole               Right = "viewConsole"               // look at the console
)

var rights = []Right{SignCards, SignMerchantTokens, CreateAppleProximityToken, CreateActivationData, ManageCards, ReadCards, ManagePasses,
	ManageWalletTokens, SearchTokens, ActivateTokens, SearchCards, ReadEnablement, DecideProvisioning, SendPasscodes, VerifyPasscodes, ProposeChanges, ApproveChanges, ViewConsole}

// Rights lists every right there is.
func Rights() []Right { return slices.Clone(rights) }

// ParseRight finds the right called name, exactly as the constants above spell it.
// Its error lists the known ones.
func ParseRight(name string) (Right, error) {
	if r := Right(name); slices.Contains(rights, r) {
		return r, nil
	}
	known := make([]string, len(rights))
	for i, r := range rights {
		known[i] = string(r)
	}
	return "", fmt.Errorf("unknown right %q; known are: %s", name, strings.Join(known, ", "))
}

// ErrForbidden is wrapped by the error of [Caller.May]: the caller is known, and the
// right is not granted to it.
var ErrForbidden = errors.New("forbidden")

// A Grant gives a client a right, for all that it calls or for a part. What it
// narrows by are claims that the client signed: a grant divides what the client may
// do among its users, it does not defend us against the client.
//
// Of several grants of one right any that covers the caller is enough; if one of
// those is single-use, the right is.
type Grant struct {
	Right    Right
	Subjects []string // a [Pattern] of these must match sub; none: any sub
	Users    []string // a [Pattern] of these must match usr, which must be there; none: any usr, or none
	KeyIDs   []string // the kid of the key that signed must be one of these, exactly; none: any key
	Tenants  []string // whose data it is for, where a call names a tenant; exactly; none: the client's own tenant

	// AnyOwner lets it be used on cards of every owner of the client's tenant, and not only
	// on those of the caller's own iss and sub.
	AnyOwner bool

	SingleUse bool // each token works once for this right, and needs a jti: see [Caller.Use]
}

// grant is a Grant that has passed its checks.
type grant struct {
	Grant
	subjects, users []Pattern
}

func newGrant(g Grant) (own grant, problems []error) {
	if _, err := ParseRight(string(g.Right)); err != nil {
		problems = append(problems, fmt.Errorf("grants: %w", err))
	}
	own = grant{Grant: g}
	own.Subjects, own.Users, own.KeyIDs, own.Tenants = nil, nil, slices.Clone(g.KeyIDs), slices.Clone(g.Tenants)
	if (g.Right == ManagePasses || g.Right == ViewConsole) && g.SingleUse {
		problems = append(problems, fmt.Errorf("grants: %s cannot be for single use", g.Right))
	}
	var wrong []error
	own.subjects, wrong = newPatterns("subjects", g.Subjects)
	problems = append(problems, wrong...)
	own.users, wrong = newPatterns("users", g.Users)
	return own, append(problems, wrong...)
}

// covers reports whether the grant is one for this caller.
func (g grant) covers(c Caller) bool {
	return (len(g.subjects) == 0 || anyMatches(g.subjects, c.Subject)) &&
		(len(g.users) == 0 || c.User != "" && anyMatches(g.users, c.User)) &&
		(len(g.KeyIDs) == 0 || slices.Contains(g.KeyIDs, c.KeyID))
}

// reaches reports whether the grant is for a tenant's data.
func (g grant) reaches(c Caller, tenant string) bool {
	if len(g.Tenants) == 0 {
		return tenant == c.Tenant
	}
	return slices.Contains(g.Tenants, tenant)
}

package passkit

import (
	"bytes"
	"fmt"
	"image/png"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// imageKind is one of the images that Wallet knows by name.
type imageKind struct {
	width, height int     // points that Wallet shows; 0: not known
	styles        []Style // that show it; nil: all
}

// imageKinds are the images by name, with the sizes of Apple's pass-builder and the
// styles of the Wallet Developer Guide (Pass Design and Creation). Which style shows
// primaryLogo, secondaryLogo and venueMap is not documented in one place; those listed
// are the ones with a layout that has a place for them.
var imageKinds = map[string]imageKind{
	"icon":                {38, 38, nil},
	"logo":                {160, 50, []Style{BoardingPass, Coupon, EventTicket, StoreCard, Generic}},
	"strip":               {375, 144, []Style{Coupon, EventTicket, StoreCard}},
	"background":          {345, 505, []Style{EventTicket, PosterGeneric}},
	"thumbnail":           {90, 90, []Style{EventTicket, Generic}},
	"footer":              {286, 15, []Style{BoardingPass}},
	"artwork":             {358, 448, []Style{EventTicket, PosterGeneric}},
	"primaryLogo":         {126, 30, []Style{BoardingPass, EventTicket, PosterGeneric}},
	"secondaryLogo":       {135, 12, []Style{EventTicket, PosterGeneric}},
	"venueMap":            {0, 0, []Style{EventTicket}},
	"personalizationLogo": {150, 40, nil},
}

var (
	imageForm = regexp.MustCompile(`^([A-Za-z]+)(@[23]x)?\.(png|pdf)$`)
	lprojForm = regexp.MustCompile(`^([A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*|Base)\.lproj$`)
)

// Bounds on an image, beyond what is shown.
const (
	maxImageSide = 4096    // pixels; decoding a larger one takes 64 MB
	maxImageSize = 4 << 20 // bytes
)

// imageName is the name of an image taken apart.
type imageName struct {
	kind  string // the base name, known to imageKinds
	scale int
	pdf   bool
}

// parseImageName recognises an image, at the top or in one language's folder.
func parseImageName(name string) (n imageName, ok bool) {
	dir, file := path.Split(name)
	m := imageForm.FindStringSubmatch(file)
	if m == nil || dir != "" && !lprojForm.MatchString(strings.TrimSuffix(dir, "/")) {
		return n, false
	}
	if _, ok := imageKinds[m[1]]; !ok {
		return n, false
	}
	n = imageName{kind: m[1], scale: 1, pdf: m[3] == "pdf"}
	if m[2] != "" {
		n.scale = int(m[2][1] - '0')
	}
	return n, true
}

// checkImages checks the images of a pass: form and size of each, that the style shows
// it, and that there is an icon.
func checkImages(files map[string][]byte, p *Pass) []Finding {
	c := &checker{}
	kinds := map[string]bool{} // at the top, any scale
	for _, name := range slices.Sorted(maps.Keys(files)) {
		n, ok := parseImageName(name)
		if !ok {
			continue
		}
		if !strings.Contains(name, "/") {
			kinds[n.kind] = true
		}
		c.file = name
		n.check(c, files[name])
		if p != nil && !shows(n.kind, p) {
			c.warn("", "is not shown by the pass's style", "remove it or change the style")
		}
	}
	c.file = ""
	checkIcon(c, files, kinds["icon"])
	if p != nil && p.EventTicket != nil && kinds["strip"] && (kinds["background"] || kinds["thumbnail"]) {
		c.warn("", "an event ticket has strip beside background or thumbnail", "keep strip, or the other two")
	}
	if _, personal := files[FilePersonalization]; kinds["personalizationLogo"] != personal {
		if personal {
			c.warn("", "personalizationLogo.png is missing beside personalization.json", "add it, 150 x 40 points")
		} else {
			c.warn("", "personalizationLogo has no effect without personalization.json", "remove it")
		}
	}
	return c.found
}

// shows reports whether one of the pass's styles shows a kind of image.
func shows(kind string, p *Pass) bool {
	styles := imageKinds[kind].styles
	return styles == nil || len(p.Styles()) == 0 || p.has(styles...)
}

// checkIcon asks for an icon as Apple's pass-builder does: one is required, the two
// larger scales are recommended.
func checkIcon(c *checker, files map[string][]byte, present bool) {
	if !present {
		c.err("", "icon.png is missing; no device installs a pass without", "add icon.png with 38 x 38 pixels, icon@2x.png and icon@3x.png")
		return
	}
	for _, name := range []string{"icon.png", "icon@2x.png", "icon@3x.png"} {
		if _, ok := files[name]; !ok {
			c.warn("", name+" is missing", "add it, so that the icon is sharp on every device")
		}
	}
}

// check checks one image's form and size by its header.
func (n imageName) check(c *checker, content []byte) {
	if n.pdf {
		c.warn("", "is PDF, which is not checked here and which devices before iOS 27 do not show", "add the PNG files too")
		return
	}
	if len(content) > maxImageSize {
		c.warn("", fmt.Sprintf("has %d bytes, which make installing slow", len(content)), "compress it")
	}
	config, err := png.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		c.err("", "is not PNG", "convert it; renaming is not enough")
		return
	}
	if config.Width > maxImageSide || config.Height > maxImageSide {
		c.err("", fmt.Sprintf("has %d x %d pixels, and %d are the most on a side", config.Width, config.Height, maxImageSide), "make it smaller")
		return
	}
	kind := imageKinds[n.kind]
	w, h := kind.width*n.scale, kind.height*n.scale
	if w > 0 && (config.Width > w || config.Height > h) {
		c.warn("", fmt.Sprintf("has %d x %d pixels, and Wallet shows %d x %d", config.Width, config.Height, w, h), "make it smaller, or Wallet scales or crops it")
	}
}

package provisioning

import (
	"errors"
	"fmt"

	"github.com/mintmark/mintmark/signer"
)

// UseSchemes takes up other activation schemes in place of those in use, under way: a
// scheme names its key, and keys change. What was begun goes on with those it began with.
func (s *Service) UseSchemes(schemes map[string]signer.Scheme) error {
	if err := s.CheckSchemes(schemes); err != nil {
		return err
	}
	s.schemes.Store(&schemes)
	return nil
}

// CheckSchemes reports everything that keeps UseSchemes from taking these up: the products
// stay as they are.
func (s *Service) CheckSchemes(schemes map[string]signer.Scheme) error {
	_, err := CheckProducts(s.cfg.Products, s.cfg.Visa, schemes)
	wrong := []error{err}
	for name, scheme := range schemes {
		if err := scheme.Check(); err != nil {
			wrong = append(wrong, fmt.Errorf("activation scheme %s: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

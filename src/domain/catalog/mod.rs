//! The catalog: meters, features, plans, prices and policies under one name.

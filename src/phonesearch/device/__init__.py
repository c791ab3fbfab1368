"""What a chip can do: profiles, and the predicted time of an exported graph."""

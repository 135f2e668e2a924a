"""What a trained network looks at: Grad-CAM, filters, feature maps, and how it groups the images."""

from mobile_multimodal import MobileMultiModalLLM
import numpy as np
model = MobileMultiModalLLM(health_check_enabled=True)
test_image = np.random.randint(0, 255, (224, 224, 3), dtype=np.uint8)
tests = {
    'model_init': model._is_initialized,
    'caption_gen': len(model.generate_caption(test_image)) > 0,
    'health_check': model.get_health_status()['status'] == 'healthy',
    'model_info': len(model.get_model_info()) > 0,
}
assert all(tests.values()), tests
